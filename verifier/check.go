package verifier

import (
	"context"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/projections"
)

// MaxKeyBytes is the longest presented key that is looked at.
const MaxKeyBytes = 4 << 10

// farAhead is how far beyond the newest head known a MinSeq cannot be honest.
const farAhead = 1_000_000

// Request asks whether a presented key opens a deployment.
type Request struct {
	Project    string
	Deployment string // its name
	Key        []byte // untrusted

	// MinSeq is the least Seq from whose state the answer may come; 0 for any. It waits for it, within
	// bounds. Incarnation, unless zero, is of the log that MinSeq belongs to.
	MinSeq      events.Seq
	Incarnation events.Incarnation
}

// Answer is a Decision and what it was decided by. The zero Answer denies.
type Answer struct {
	projections.Decision
	Deployment *projections.Deployment // that the request names; nil if there is none. Not to be changed
	Seq        events.Seq              // the state that it was decided from is at least as new
	Staleness  time.Duration           // since that state was known to be the newest
	Stale      bool                    // the lease is over, and the operator chose to serve on

	at   events.Instant // when it was decided
	home uint64         // where uses count it
}

// Check decides. It does not block unless the request has a MinSeq that is still to come.
func (v *Verifier) Check(ctx context.Context, r Request) Answer {
	a := v.decide(&r)
	if r.MinSeq > a.Seq || !r.Incarnation.IsZero() {
		a = v.decideAt(ctx, &r, a)
	}
	v.tally.checks[a.Reason].Add(1)
	if v.uses != nil && a.Allowed() {
		v.uses.add(a.Key, a.home, a.at)
	}
	return a
}

// decide answers from the index as it is. The gate is read first: what is found is never older than what
// it says was applied. All that can be done without the index is done between Expect and Decide.
func (v *Verifier) decide(r *Request) Answer {
	g := v.gate.Load()
	foreign := v.idx.Charter().ForeignKeys
	amiss := sizeAmiss(len(r.Key), foreign)
	var digest events.Digest
	var home uint64
	if amiss == projections.Undecided {
		digest = apikey.DigestOf(r.Key)
		v.idx.Expect(&digest)
		if v.uses != nil {
			home = v.uses.expect(&digest)
		}
		if !foreign && !apikey.WellFormed(r.Key) {
			amiss = projections.Malformed
		}
	}
	wall, now := v.opts.Clock.Both()
	a := Answer{Seq: g.applied, Staleness: g.staleness(now), Stale: g.stale(now), home: home}
	switch {
	case !g.open(now):
		a.Reason = projections.NotFresh
	case amiss != projections.Undecided:
		a.Reason = amiss
	default:
		a.at = g.instant(wall, now)
		v.lookUp(r, digest, &a)
	}
	return a
}

// sizeAmiss is why presented bytes of that length need no look; Undecided if they may be a key.
func sizeAmiss(size int, foreign bool) projections.Reason {
	switch {
	case size == 0:
		return projections.Missing
	case size > MaxKeyBytes, !foreign && size != apikey.Len:
		return projections.Malformed
	default:
		return projections.Undecided
	}
}

func (v *Verifier) lookUp(r *Request, digest events.Digest, a *Answer) {
	d := v.idx.Deployments().Named(r.Project, r.Deployment)
	if d != nil {
		a.Deployment = &d.Deployment
	}
	var err error
	a.Decision, err = v.idx.Decide(digest, d, a.at)
	if err != nil {
		a.Reason = projections.Broken
		if v.tally.mayComplain(v.opts.Clock.Elapsed()) {
			v.tell(CheckBroken{Err: err})
		}
	}
}

// decideAt answers from MinSeq or later, or not at all. first is the answer without it.
func (v *Verifier) decideAt(ctx context.Context, r *Request, first Answer) Answer {
	g := v.gate.Load()
	switch {
	case first.Reason == projections.NotFresh, len(r.Key) == 0, len(r.Key) > MaxKeyBytes:
		return first // no later state says otherwise
	case !r.Incarnation.IsZero() && r.Incarnation != g.incarnation, r.MinSeq > g.newest+farAhead:
		return behind(first)
	case r.MinSeq <= first.Seq:
		return first
	case first.Key.IsZero() && !apikey.WellFormed(r.Key):
		return behind(first) // what may be noise is not worth a wait
	case !v.await(ctx, r.MinSeq):
		return behind(first)
	}
	again := v.decide(r)
	if again.Seq < r.MinSeq && again.Reason != projections.NotFresh {
		return behind(again)
	}
	return again
}

func behind(a Answer) Answer {
	a.Decision = projections.Decision{Reason: projections.BehindMinSeq}
	a.Deployment = nil
	return a
}

// await reports whether seq was applied in time.
func (v *Verifier) await(ctx context.Context, seq events.Seq) bool {
	defer v.tally.waiting.Add(-1)
	if v.tally.waiting.Add(1) > int64(v.opts.MinSeqWaiters) {
		return false
	}
	timeout := time.NewTimer(v.opts.MinSeqWait)
	defer timeout.Stop()
	for {
		rise := *v.rise.Load() // before looking: what is applied after the look closes it
		if v.gate.Load().applied >= seq {
			return true
		}
		select {
		case <-rise:
		case <-timeout.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// DeploymentAt gives the project's deployment that is served under the host name; nil if there is none.
func (v *Verifier) DeploymentAt(project, host string) *projections.Deployment {
	if d := v.idx.Deployments().AtHost(host); d != nil && d.Project == project {
		return &d.Deployment
	}
	return nil
}

// Status is how the verifier fares.
type Status struct {
	State     State               `json:"state"`
	Ready     bool                `json:"ready"` // checks are answered
	Why       string              `json:"why,omitempty"`
	Position  events.Position     `json:"position"`
	Newest    events.Seq          `json:"newest"` // head known, which Position may not have reached
	Staleness time.Duration       `json:"-"`
	LeaseLeft time.Duration       `json:"-"`
	Instance  events.InstanceID   `json:"instance"` // as which it is a member of the fleet
	Charter   projections.Charter `json:"-"`
}

// Status tells how the verifier fares now.
func (v *Verifier) Status() Status {
	g, now := v.gate.Load(), v.opts.Clock.Elapsed()
	s := Status{
		State: g.state(now), Ready: g.open(now), Newest: g.newest, Staleness: g.staleness(now),
		Position: v.idx.Position(), Charter: *v.idx.Charter(), Instance: g.self,
	}
	if g.held {
		s.LeaseLeft = max(0, g.until-now)
	}
	switch {
	case g.quarantined != nil:
		s.Why = g.quarantined.Error()
	case g.stalled != nil:
		s.Why = "cannot apply: " + g.stalled.Error()
	case s.State == Starting:
		s.Why = "not caught up with the log since the start"
	case s.State == Lapsed:
		s.Why = "not known fresh for longer than the lease"
	}
	return s
}
