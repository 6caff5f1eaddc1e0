package fleet

import (
	"bytes"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// State is how far a change has come.
type State string

// The states of VERDICT.
const (
	Recorded  State = "recorded"  // durable in the log
	Confirmed State = "confirmed" // every verifier has applied it
	Fenced    State = "fenced"    // all but some have, and those have stopped answering
	Pending   State = "pending"
)

// Never stands for an instant that does not come.
const Never time.Duration = 1<<63 - 1

// Verdict is what can be said of a Seq. What it says of times is since boot, on the registry's clock.
type Verdict struct {
	First    events.Seq // of the commit that holds it,
	Seq      events.Seq // and its last
	State    State
	Members  int               // that have to apply it
	Missing  []Missing         // members that have not acknowledged it
	Slowest  events.InstanceID // of the others, the last to acknowledge; zero if it was not seen
	Took     time.Duration     // from when it was durable to that
	FencedAt time.Duration     // when the last one missing has stopped; Never, or 0 if none is missing
}

// Missing is a member that has not acknowledged a Seq.
type Missing struct {
	projections.Member
	StopsAt time.Duration // by when it has stopped answering from before; Never if it serves on past its lease
}

// Wait is for a Seq to be acknowledged by all who have to. It is shared by those who wait for the same.
type Wait struct {
	seq     events.Seq
	since   time.Duration // when it was durable
	missing map[events.InstanceID]bool
	slowest events.InstanceID
	took    time.Duration
	done    chan struct{}
	waiters int
}

// Confirmed is closed once nobody is missing.
func (w *Wait) Confirmed() <-chan struct{} { return w.done }

// Await begins to wait for a Seq up to End. It ends with Forget.
func (f *Fleet) Await(seq events.Seq) *Wait {
	at, _ := f.ends.from(seq)
	w := f.waits[at.seq]
	if w == nil {
		w = &Wait{seq: at.seq, since: f.since(at.seq), missing: map[events.InstanceID]bool{}, done: make(chan struct{})}
		for id := range f.charter.Members {
			if f.needs(id, at.seq) {
				w.expect(id, f.seats[id])
			}
		}
		f.waits[at.seq] = w
		w.settle()
	}
	w.waiters++
	return w
}

// expect waits for the member, unless it was quicker than whoever waits.
func (w *Wait) expect(id events.InstanceID, s *seat) {
	switch {
	case s.acked < w.seq:
		w.missing[id] = true
	case s.ackedAt-w.since > w.took || w.slowest.IsZero() && s.ackedAt >= w.since:
		w.slowest, w.took = id, s.ackedAt-w.since
	}
}

// Forget ends what Await began.
func (f *Fleet) Forget(w *Wait) {
	if w.waiters--; w.waiters == 0 && f.waits[w.seq] == w {
		delete(f.waits, w.seq)
	}
}

// needs reports whether no verdict on a commit that ends at seq can do without the member. Those that registered
// behind it were never granted a head from before it.
func (f *Fleet) needs(id events.InstanceID, seq events.Seq) bool {
	return f.charter.Members[id].RegisteredAt < seq
}

// since is when what ends at seq was known to be durable.
func (f *Fleet) since(seq events.Seq) time.Duration {
	at, _ := f.ends.from(seq) // what is forgotten was durable before
	return at.at
}

func (f *Fleet) confirm(id events.InstanceID, seq events.Seq, now time.Duration) {
	for _, w := range f.waits {
		if w.seq <= seq && w.missing[id] {
			w.slowest, w.took = id, now-w.since
			delete(w.missing, id)
			w.settle()
		}
	}
}

// excuse is for members that the log says have left.
func (f *Fleet) excuse(id events.InstanceID) {
	for _, w := range f.waits {
		if w.missing[id] {
			delete(w.missing, id)
			w.settle()
		}
	}
}

func (w *Wait) settle() {
	if len(w.missing) == 0 {
		close(w.done)
	}
}

// Verdict says what can be said of a Seq now (rule VERDICT): of one beyond End, nothing.
func (f *Fleet) Verdict(seq events.Seq, now time.Duration) Verdict {
	at, known := f.ends.from(seq)
	if !known {
		return Verdict{Seq: seq, State: Pending, FencedAt: Never}
	}
	v := Verdict{First: f.ends.first(seq), Seq: at.seq, State: Confirmed}
	stops := max(at.at, f.term.Opened+f.term.Before) + f.fence(now)
	for id, m := range f.charter.Members {
		if !f.needs(id, at.seq) {
			continue
		}
		v.Members++
		if f.seats[id].acked >= at.seq {
			continue
		}
		missing := Missing{Member: m, StopsAt: stops}
		if m.Mode != events.ModeDeny {
			missing.StopsAt = Never
		}
		v.FencedAt = max(v.FencedAt, missing.StopsAt)
		v.Missing = append(v.Missing, missing)
	}
	slices.SortFunc(v.Missing, func(a, b Missing) int { return bytes.Compare(a.Instance[:], b.Instance[:]) })
	switch {
	case len(v.Missing) > 0 && now >= v.FencedAt:
		v.State = Fenced
	case len(v.Missing) > 0:
		v.State = Pending
	}
	if w := f.waits[at.seq]; w != nil {
		v.Slowest, v.Took = w.slowest, w.took
	}
	return v
}
