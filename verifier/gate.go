package verifier

import (
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// gate is rule GATE of the protocol with all that it decides by: a value, made anew whenever something of
// it changes, so that a check reads it without a lock.
type gate struct {
	self        events.InstanceID // that it is the gate of
	incarnation events.Incarnation
	applied     events.Seq
	floor       events.Seq // highest ever applied, and so no less than the head of the grant in use
	newest      events.Seq // newest head known

	held  bool          // a grant is or was in use
	asked time.Duration // when that grant was asked for: everything up to then is known to be applied
	until time.Duration // when its lease ends
	serve time.Duration // how long past it answers go on, marked stale, as that grant says

	attested   events.Instant // newest time that the registry vouched for,
	attestedAt time.Duration  // and when it came

	stalled     error
	quarantined error
}

// State is what a verifier is doing, as STATES of the protocol lists them.
type State string

// The states. Checks are answered in Serving and Stalled, and in Lapsed only by a verifier that was told
// to serve on.
const (
	Starting    State = "starting"
	Serving     State = "serving"
	Stalled     State = "stalled"     // cannot apply: answers from the last good state until the lease ends
	Lapsed      State = "lapsed"      // not known fresh for longer than the lease
	Quarantined State = "quarantined" // the log, or the index, contradicts itself
)

// States are all there are.
func States() []State { return []State{Starting, Serving, Stalled, Lapsed, Quarantined} }

// open reports whether checks are answered.
func (g *gate) open(now time.Duration) bool {
	return g.quarantined == nil && g.held && g.applied >= g.floor && now < later(g.until, g.serve)
}

// stale reports whether an answer given now is one past the lease.
func (g *gate) stale(now time.Duration) bool { return now >= g.until }

func (g *gate) staleness(now time.Duration) time.Duration {
	if !g.held {
		return 0
	}
	return now - g.asked
}

func (g *gate) state(now time.Duration) State {
	switch {
	case g.quarantined != nil:
		return Quarantined
	case !g.held || g.applied < g.floor:
		return Starting
	case g.stale(now):
		return Lapsed
	case g.stalled != nil:
		return Stalled
	default:
		return Serving
	}
}

// instant is rule CLOCK: a wall clock that was set back revives nothing that the registry saw die.
func (g *gate) instant(wall time.Time, now time.Duration) events.Instant {
	return max(events.InstantOf(wall), g.attestedBy(now))
}

func (g *gate) attestedBy(now time.Duration) events.Instant {
	if g.attested == 0 {
		return 0
	}
	return g.attested + events.Instant((now - g.attestedAt).Milliseconds())
}

// later adds without overflow.
func later(at, by time.Duration) time.Duration {
	if sum := at + by; sum >= at {
		return sum
	}
	return 1<<63 - 1
}
