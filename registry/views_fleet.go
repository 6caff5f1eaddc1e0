package registry

import (
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

// Confirmation says how far a command's effect has come (rule VERDICT of docs/protocol.md). State is recorded, confirmed, fenced
// or pending; recorded has no Receipt.
type Confirmation struct {
	State string `json:"state"`
	*Receipt
}

// Receipt is what a verdict rests on.
type Receipt struct {
	Verifiers int             `json:"verifiers"` // that have to apply it
	Acked     int             `json:"acked"`     // that did
	Slowest   *Slowest        `json:"slowest"`   // of those, where it was seen
	Waiting   []Waiting       `json:"waiting"`   // the others
	FencedAt  *events.Instant `json:"fenced_at"` // when the last of those has stopped answering; null for never, or none
	Released  []Asserted      `json:"released,omitempty"`
}

// Slowest is the last verifier to acknowledge.
type Slowest struct {
	Instance events.InstanceID `json:"instance"`
	Verifier string            `json:"verifier"`
	PoP      string            `json:"pop"`
	Ms       int64             `json:"ms"` // from when the change was durable
}

// Waiting is a verifier that has not acknowledged.
type Waiting struct {
	Instance events.InstanceID `json:"instance"`
	Verifier string            `json:"verifier"`
	PoP      string            `json:"pop"`
	Mode     events.Mode       `json:"mode"`
	StopsAt  *events.Instant   `json:"stops_at"` // by when it has stopped answering; null for never: it serves on past its lease
}

// Asserted is a verifier that nobody waits for because somebody said that it answers nothing any more.
type Asserted struct {
	Instance   events.InstanceID `json:"instance"`
	Verifier   string            `json:"verifier"`
	PoP        string            `json:"pop"`
	AssertedBy string            `json:"asserted_by"`
	Reason     string            `json:"reason"`
	At         events.Instant    `json:"at"`
}

// ReceiptReply answers fleet.confirm.
type ReceiptReply struct {
	Seq          events.Seq    `json:"seq"`
	Confirmation *Confirmation `json:"confirmation"`
}

// FleetReply answers the commands about the fleet.
type FleetReply struct {
	Seq events.Seq `json:"seq"`
	Answer
}

// FleetView answers fleet.status.
type FleetView struct {
	Registry  string         `json:"registry"` // the active one
	Term      uint64         `json:"term"`
	Seq       events.Seq     `json:"seq"` // at which the log ends
	LeaseMs   int64          `json:"lease_ms"`
	Verifiers []VerifierView `json:"verifiers"`
	SignedBy  string         `json:"signed_by,omitempty"` // public half of the key that grants are signed with
	LogKeys   []string       `json:"log_keys"`            // all that are the log's, the one added last behind
}

// VerifierView is one instance, as the registry last heard of it.
type VerifierView struct {
	Instance    events.InstanceID `json:"instance"`
	Verifier    string            `json:"verifier"`
	PoP         string            `json:"pop"`
	Version     string            `json:"version"`
	Mode        events.Mode       `json:"mode"`
	State       string            `json:"state"` // as it told itself; unheard in this term, or lapsed
	Since       events.Instant    `json:"since"` // member
	Applied     events.Seq        `json:"applied"`
	Lag         events.Seq        `json:"lag"`           // events behind the log's end
	SilentMs    *int64            `json:"silent_ms"`     // since its last renewal; null: none in this term
	LeaseLeftMs int64             `json:"lease_left_ms"` // of its last grant
	LastAckMs   *int64            `json:"last_ack_ms"`   // ago; null: none in this term
	ClockMs     *int64            `json:"clock_ms"`      // by which its clock is ahead of the registry's, less the way here; null: it did not say
	Alarms      []string          `json:"alarms"`
}

// The alarms of a verifier.
const (
	AlarmHalfLease = "half_lease" // half of its lease is gone without a renewal
	AlarmCopied    = "copied"     // two machines are this instance
	AlarmForked    = "forked"     // it has applied another log
	AlarmDiverged  = "diverged"   // its index is not what the log says
	AlarmClock     = "clock"      // its clock and the registry's are more than 2 s apart
)

// Alarms are all there are.
func Alarms() []string {
	return []string{AlarmHalfLease, AlarmCopied, AlarmForked, AlarmDiverged, AlarmClock}
}

// The states that a registry sees itself.
const (
	stateUnheard = "unheard"
	stateLapsed  = "lapsed"
	stateStale   = "serving stale"
	stateUnknown = "unknown"
)

// statesTold are those that verifiers tell of themselves.
var statesTold = []string{"starting", "serving", "stalled", "lapsed", "quarantined"}

func (s *Service) fleetView(l *leading) (*FleetView, error) {
	l.members.Lock()
	reports := l.members.Report(s.opts.Clock.Elapsed())
	end := l.members.End()
	l.members.Unlock()
	charter, own := s.catalog.Charter(), events.InstantOf(s.opts.Clock.Now())
	view := &FleetView{Registry: s.opts.Name, Term: l.term, Seq: end.Seq, LeaseMs: charter.Lease.Length.Milliseconds(),
		LogKeys:   make([]string, 0, len(charter.SigningKeys)),
		Verifiers: make([]VerifierView, 0, len(reports))}
	if key, signs := s.signs(); signs {
		view.SignedBy = key.String()
	}
	for _, key := range charter.SigningKeys {
		view.LogKeys = append(view.LogKeys, key.String())
	}
	for i := range reports {
		view.Verifiers = append(view.Verifiers, viewVerifier(&reports[i], end.Seq, charter.Lease.Length, own))
	}
	if _, active := s.Active(); !active || s.leading.Load() != l {
		return nil, errStandby
	}
	return view, nil
}

func viewVerifier(r *fleet.Report, end events.Seq, lease time.Duration, own events.Instant) VerifierView {
	v := VerifierView{
		Instance: r.Instance, Verifier: r.Verifier, PoP: r.PoP, Version: r.Version, Mode: r.Mode, Since: r.Since,
		State: stateUnheard, Applied: max(r.Acked, r.Said.Seq), LeaseLeftMs: r.LeaseLeft.Milliseconds(), Alarms: []string{},
	}
	v.Lag = end - min(end, v.Applied)
	if r.Heard {
		v.SilentMs = milliseconds(r.Ago)
		if v.State = stateUnknown; slices.Contains(statesTold, r.Said.State) {
			v.State = r.Said.State
		}
	}
	if r.Heard && r.LeaseLeft == 0 {
		v.State = stateLapsed
		if r.Mode == events.ModeServe {
			v.State = stateStale
		}
	}
	if r.Acked > 0 {
		v.LastAckMs = milliseconds(r.AckedAgo)
	}
	clockBehind, said := r.ClockBehind(own)
	if said {
		v.ClockMs = milliseconds(-clockBehind)
	}
	for alarm, rings := range map[string]bool{
		AlarmHalfLease: r.Heard && r.LeaseLeft < lease/2, AlarmCopied: r.Torn, AlarmForked: r.Forked, AlarmDiverged: r.Diverged,
		AlarmClock: clockBehind.Abs() > clockTolerance,
	} {
		if rings {
			v.Alarms = append(v.Alarms, alarm)
		}
	}
	return v
}

func milliseconds(d time.Duration) *int64 {
	ms := d.Milliseconds()
	return &ms
}
