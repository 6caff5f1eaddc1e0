package fleet

import (
	"bytes"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
)

// Report is how a member fares, as far as this term knows.
type Report struct {
	projections.Member
	Heard     bool          // it renewed in this term; else the fields below are zero
	Said      head.Renewal  // with its last renewal,
	Ago       time.Duration // which came so long ago
	Acked     events.Seq
	AckedAgo  time.Duration
	LeaseLeft time.Duration // of its last grant; 0 when that is over
	Torn      bool          // two machines are this instance
	Forked    bool          // it has applied another log than ours
	Diverged  bool          // its index proved wrong, or holds something else than those of others at the same Seq
}

// Report tells of every member, by PoP, verifier and instance.
func (f *Fleet) Report(now time.Duration) []Report {
	all := make([]Report, 0, len(f.seats))
	diverging := f.diverging()
	for id, s := range f.seats {
		r := Report{Member: f.charter.Members[id], Heard: s.heard, Acked: s.acked, Torn: s.torn, Forked: s.forked,
			Diverged: diverging[id] || s.said.WantsToRebuild}
		if s.heard {
			r.Said, r.Ago = s.said, now-s.heardAt
			r.LeaseLeft = max(0, f.charter.Lease.Length-(now-s.granted))
		}
		if s.acked > 0 {
			r.AckedAgo = now - s.ackedAt
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Report) int { return bytes.Compare(order(&a), order(&b)) })
	return all
}

func order(r *Report) []byte {
	return slices.Concat([]byte(r.PoP), []byte{0}, []byte(r.Verifier), []byte{0}, r.Instance[:])
}
