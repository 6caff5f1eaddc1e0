package verifier

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

// What a hold remembers at most.
const (
	maxAsked   = 8
	maxPending = 64
	maxRecent  = 8192 // commits: what a busy log grows by while a grant is under way
)

// hold is rule HOLD of the protocol: it is told of grants, of what was applied and of the time, and says
// what gate comes of it. It has no clock and does no I/O. Times are since boot.
type hold struct {
	gate    gate
	using   *lease // the one that the gate is open by
	term    uint64 // newest in the log as far as applied
	recent  chains
	asked   []question // oldest first
	pending []lease    // with heads not yet applied, lowest first
	owed    head.Head  // what the run before acknowledged and this one has still to come back to
	stalled time.Duration
}

type question struct {
	nonce head.Nonce
	at    time.Duration
}

type lease struct {
	head         head.Head
	asked, until time.Duration
	serve        time.Duration // how long past it answers go on
	signed       []byte        // the grant that it is of
}

// errGrant says that a grant was not accepted; the next may be.
var errGrant = errors.New("grant refused")

// newHold begins behind p, which is durable, as an instance. Nothing is answered below floor, nor from a history without it.
func newHold(p events.Position, floor head.Head, self events.InstanceID) *hold {
	h := &hold{term: p.Term, gate: gate{self: self, floor: floor.Seq, newest: floor.Seq}}
	if p.Seq > 0 {
		h.moveTo(headOf(p))
	}
	switch {
	case floor.Seq > p.Seq:
		h.owed = floor
	case floor.Seq == p.Seq && floor != headOf(p):
		h.quarantine(fmt.Errorf("%w: at Seq %d the index has chain hash %s, and %s was acknowledged", events.ErrFork, p.Seq, p.Chain, floor.Chain))
	}
	return h
}

// headOf is the head of a log that ends where p is.
func headOf(p events.Position) head.Head {
	return head.Head{Incarnation: p.Incarnation, Seq: p.Seq, Chain: p.Chain}
}

// beginBehind begins again with another index. Of what it was granted nothing stays, and of what it was told the time.
func (h *hold) beginBehind(p events.Position, floor head.Head, self events.InstanceID) {
	attested, at := h.gate.attested, h.gate.attestedAt
	*h = *newHold(p, floor, self)
	h.gate.attested, h.gate.attestedAt = attested, at
}

// highest is the head up to which it ever applied.
func (h *hold) highest() head.Head {
	if h.owed.Seq > 0 || len(h.recent.ring) == 0 {
		return h.owed
	}
	return h.recent.at(len(h.recent.ring) - 1)
}

// beginAnew makes it another instance, which has been granted nothing.
func (h *hold) beginAnew(self events.InstanceID) {
	h.using, h.asked, h.pending = nil, nil, nil
	h.gate.self, h.gate.held = self, false
}

func (h *hold) moveTo(head head.Head) {
	h.gate.incarnation, h.gate.applied = head.Incarnation, head.Seq
	h.gate.floor = max(h.gate.floor, head.Seq)
	h.gate.newest = max(h.gate.newest, head.Seq)
	h.recent.add(head)
}

// ask notes that a renewal with the nonce is sent now. Its grant counts from now on, not from its arrival.
func (h *hold) ask(nonce head.Nonce, now time.Duration) {
	if len(h.asked) == maxAsked {
		h.asked = slices.Delete(h.asked, 0, 1)
	}
	h.asked = append(h.asked, question{nonce, now})
}

// grant takes a grant in. An error that wraps errGrant means that it was not accepted; any other, that the
// registry's log is not ours.
func (h *hold) grant(g head.Grant, signed []byte, now time.Duration) error {
	i := slices.IndexFunc(h.asked, func(q question) bool { return q.nonce == g.Nonce })
	if i < 0 {
		return fmt.Errorf("%w: nobody asked for it", errGrant)
	}
	asked := h.asked[i].at
	h.asked = slices.Delete(h.asked, i, i+1)
	if g.Term < h.term {
		return fmt.Errorf("%w: it is of term %d, the log is in term %d", errGrant, g.Term, h.term)
	}
	l, err := h.check(g, signed, asked, now)
	if err == nil {
		err = h.place(l, now)
	}
	if err != nil {
		return err
	}
	h.gate.newest = max(h.gate.newest, g.Seq)
	if g.Attested > h.gate.attestedBy(now) {
		h.gate.attested, h.gate.attestedAt = g.Attested, now
	}
	return nil
}

// resume takes in the grant that this instance was using when its process ended. Its head was held against the own chain
// then: what the index has that is newer was applied behind it.
func (h *hold) resume(g head.Grant, signed []byte, asked, now time.Duration) error {
	compared := g.Incarnation == h.gate.incarnation && g.Seq < h.gate.applied
	l, err := h.check(g, signed, asked, now)
	switch {
	case err != nil:
		return err
	case compared:
		h.use(l)
		return nil
	default:
		return h.place(l, now)
	}
}

// check makes a lease of a grant that may be used by what the grant itself says.
func (h *hold) check(g head.Grant, signed []byte, asked, now time.Duration) (lease, error) {
	l := lease{head: g.Head, asked: asked, until: later(asked, g.Lease-g.Lease/100), signed: signed}
	if g.Mode == events.ModeServe {
		l.serve = g.ServeBound
	}
	switch {
	case g.Instance != h.gate.self:
		return l, fmt.Errorf("%w: it is for another instance, %s", errGrant, g.Instance)
	case now >= l.until && l.serve == 0:
		return l, fmt.Errorf("%w: it came when its lease of %s was over", errGrant, g.Lease)
	case g.Seq == 0:
		return l, fmt.Errorf("%w: its head is of an empty log", errGrant)
	}
	return l, nil
}

// place uses the lease, or keeps it until its head is applied.
func (h *hold) place(l lease, now time.Duration) error {
	if h.gate.applied == 0 || l.head.Seq > h.gate.applied && l.head.Incarnation == h.gate.incarnation {
		h.keep(l, now)
		return nil
	}
	known, err := h.recent.holds(l.head)
	switch {
	case err != nil:
		h.quarantine(err)
		return err
	case !known:
		return fmt.Errorf("%w: its head, Seq %d, is older than what can be compared", errGrant, l.head.Seq)
	}
	h.use(l)
	return nil
}

// keep bounds what is pending without starving anybody: the lowest heads stay, to be used first, and of the
// others the newest.
func (h *hold) keep(l lease, now time.Duration) {
	h.pending = slices.DeleteFunc(h.pending, func(p lease) bool {
		return now >= later(p.until, p.serve) || p.head == l.head && p.until <= l.until
	})
	if len(h.pending) == maxPending {
		h.pending = h.pending[:maxPending-1]
	}
	at, _ := slices.BinarySearchFunc(h.pending, l, func(a, b lease) int {
		if a.head.Seq <= b.head.Seq {
			return -1
		}
		return 1
	})
	h.pending = slices.Insert(h.pending, at, l)
}

func (h *hold) use(l lease) {
	if h.gate.quarantined != nil || h.gate.held && l.until <= h.gate.until {
		return
	}
	h.using = &l
	h.gate.held, h.gate.asked, h.gate.until, h.gate.serve = true, l.asked, l.until, l.serve
	if h.gate.stalled != nil && l.asked > h.stalled {
		h.gate.stalled = nil // everything there was after the stall began is applied
	}
}

// apply notes that the entry was applied, and uses the grants that waited for it.
func (h *hold) apply(e events.Entry) error {
	if h.gate.quarantined != nil {
		return h.gate.quarantined
	}
	h.moveTo(head.Head{Incarnation: e.Commit.Incarnation, Seq: e.Commit.Last(), Chain: e.Chain})
	h.term = max(h.term, e.Commit.Term)
	h.gate.stalled = nil
	if h.owed.Seq > 0 && h.owed.Seq <= h.gate.applied {
		if _, err := h.recent.holds(h.owed); err != nil {
			h.quarantine(err)
			return err
		}
		h.owed = head.Head{}
	}
	for len(h.pending) > 0 && h.pending[0].head.Seq <= h.gate.applied {
		known, err := h.recent.holds(h.pending[0].head)
		if err != nil {
			h.quarantine(err)
			return err
		}
		if known {
			h.use(h.pending[0])
		}
		h.pending = h.pending[1:]
	}
	return nil
}

// stall notes that what follows cannot be applied for now.
func (h *hold) stall(why error, now time.Duration) {
	if h.gate.stalled == nil {
		h.stalled = now
	}
	h.gate.stalled = why
}

// quarantine is for good: no grant and no entry ends it.
func (h *hold) quarantine(why error) {
	if h.gate.quarantined == nil {
		h.gate.quarantined = why
	}
	h.using = nil
}

// chains are the ends of the newest commits applied, without a gap between them.
type chains struct {
	ring []head.Head
	next int // where the oldest stands once the ring is full
}

func (c *chains) add(h head.Head) {
	if len(c.ring) < maxRecent {
		c.ring = append(c.ring, h)
		return
	}
	c.ring[c.next] = h
	c.next = (c.next + 1) % maxRecent
}

func (c *chains) at(i int) head.Head { return c.ring[(c.next+i)%len(c.ring)] }

// holds reports whether the head, which is not ahead, is one of ours. It is unknown when it is older than
// all; the error says that it contradicts them.
func (c *chains) holds(head head.Head) (known bool, err error) {
	if newest := c.at(len(c.ring) - 1); head.Incarnation != newest.Incarnation {
		return false, fmt.Errorf("%w: had %s, the registry has %s", events.ErrIncarnation, newest.Incarnation, head.Incarnation)
	}
	if head.Seq < c.at(0).Seq {
		return false, nil
	}
	low, high := 0, len(c.ring)
	for low < high {
		if middle := (low + high) / 2; c.at(middle).Seq < head.Seq {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(c.ring) || c.at(low) != head {
		return false, fmt.Errorf("%w: at Seq %d the registry's log has chain hash %s", events.ErrFork, head.Seq, head.Chain)
	}
	return true, nil
}
