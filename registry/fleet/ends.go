package fleet

import (
	"sort"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

// maxEnds is how many commits are remembered: what a busy log grows by while a verifier catches up.
const maxEnds = 1 << 16

// Standing is how a head compares to the log.
type Standing int

// The standings.
const (
	Other Standing = iota // it contradicts the log
	Same                  // it is a prefix of the log
	Older                 // it ends before what is remembered
	Ahead                 // it ends behind the log
)

// end is where a commit ends, and since when it was known to be durable.
type end struct {
	seq   events.Seq
	chain events.ChainHash
	at    time.Duration
}

// ends are those of the newest commits, without a gap.
type ends struct {
	incarnation events.Incarnation
	ring        []end
	oldest      int
}

func (e *ends) add(h head.Head, at time.Duration) {
	e.incarnation = h.Incarnation
	next := end{h.Seq, h.Chain, at}
	if len(e.ring) < maxEnds {
		e.ring = append(e.ring, next)
		return
	}
	e.ring[e.oldest] = next
	e.oldest = (e.oldest + 1) % maxEnds
}

func (e *ends) at(i int) end { return e.ring[(e.oldest+i)%len(e.ring)] }

func (e *ends) newest() head.Head {
	last := e.at(len(e.ring) - 1)
	return head.Head{Incarnation: e.incarnation, Seq: last.seq, Chain: last.chain}
}

// from gives the first commit that ends at seq or behind it.
func (e *ends) from(seq events.Seq) (end, bool) {
	i := sort.Search(len(e.ring), func(i int) bool { return e.at(i).seq >= seq })
	if i == len(e.ring) {
		return end{}, false
	}
	return e.at(i), true
}

// first gives the Seq at which the commit that holds seq begins; seq itself where that is forgotten.
func (e *ends) first(seq events.Seq) events.Seq {
	i := sort.Search(len(e.ring), func(i int) bool { return e.at(i).seq >= seq })
	if i == 0 || i == len(e.ring) {
		return seq
	}
	return e.at(i-1).seq + 1
}

// Compare tells how a head compares to the log. A head of nothing is a prefix of every log.
func (f *Fleet) Compare(h head.Head) Standing {
	switch {
	case h.Seq == 0:
		return Same
	case h.Incarnation != f.ends.incarnation:
		return Other
	case h.Seq < f.ends.at(0).seq:
		return Older
	}
	switch found, ok := f.ends.from(h.Seq); {
	case !ok:
		return Ahead
	case found.seq == h.Seq && found.chain == h.Chain:
		return Same
	default:
		return Other
	}
}
