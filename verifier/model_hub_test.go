package verifier

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

// selfLease is how long a registry believes in its election.
const selfLease = 2 * time.Second

// hub is a registry, wired as package registry wires it. Between any two of its steps it may stand still for as long as it likes.
type hub struct {
	m    *model
	name string
	rate int64

	at      events.Position // of its catalog
	charter projections.Charter

	won      uint64 // the election, at this revision; 0: it did not
	believes time.Duration
	term     uint64 // that it leads, or 0
	fleet    *fleet.Fleet
	writing  *writing
	outbox   []packet // grants that were made, and not sent
	tickets  map[events.InstanceID]head.Ticket
}

// writing is an append under way. One at a time.
type writing struct {
	entry        events.Entry
	landed, lost bool
	opens        bool    // a term
	joining      *packet // whose sender it makes a member
}

func (h *hub) clock() time.Duration        { return elapsed(h.m.now, h.rate) }
func (h *hub) wall() events.Instant        { return noonOfTheModel + events.Instant(h.m.now.Milliseconds()) }
func (h *hub) leading() bool               { return h.term > 0 }
func (h *hub) mayReply() bool              { return h.leading() && h.clock() < h.believes }
func (h *hub) end() head.Head              { return headOf(h.at) }
func (h *hub) known() *projections.Charter { c := h.charter; return &c }

// stepDown is the end of a term, for whatever reason.
func (h *hub) stepDown() {
	h.won, h.term, h.fleet, h.outbox = 0, 0, nil, nil
	h.tickets = map[events.InstanceID]head.Ticket{}
}

// crash leaves what was sent to the log under way.
func (h *hub) crash() bool {
	if h.writing != nil && !h.writing.landed {
		h.m.adrift = append(h.m.adrift, h.writing.entry)
	}
	h.writing = nil
	h.stepDown()
	return true
}

// elect lets it win at any time: a bucket may forget too early.
func (h *hub) elect() bool {
	if h.won > 0 {
		return false
	}
	h.m.election.holder = h
	h.m.election.revision++
	h.won, h.believes = h.m.election.revision, h.clock()+selfLease
	return true
}

func (h *hub) keepLead() bool {
	if h.won == 0 || h.m.election.holder != h {
		return false
	}
	h.believes = h.clock() + selfLease
	return true
}

func (h *hub) losesLead() bool {
	if h.won == 0 || h.clock() < h.believes {
		return false
	}
	h.stepDown()
	return true
}

// catchUp folds in what the log holds.
func (h *hub) catchUp() {
	for int(h.at.Seq) < len(h.m.log) {
		h.fold(h.m.log[h.at.Seq])
	}
}

func (h *hub) fold(e events.Entry) {
	next, err := h.at.Next(e)
	if err != nil {
		h.m.breaks("registry %s cannot read the log: %s", h.name, err)
		return
	}
	h.at = next
	for i := range e.Commit.Events() {
		if err := h.charter.Evolve(&e.Commit.Events()[i], e.Commit.First, e.Commit.Time); err != nil {
			h.m.breaks("registry %s cannot fold Seq %d: %s", h.name, e.Commit.First, err)
		}
	}
}

// openTerm sends term_opened.
func (h *hub) openTerm() bool {
	if h.won == 0 || h.leading() || h.writing != nil {
		return false
	}
	h.catchUp()
	if h.clock() >= h.believes {
		h.stepDown()
		return true
	}
	term := max(h.won, h.at.Term+1)
	h.write(term, events.Event{Fact: &events.TermOpened{Term: term, Registry: h.name}})
	h.writing.opens = true
	return true
}

// say sends a commit of the term, if it may be decided now.
func (h *hub) say(e events.Event) bool {
	if !h.leading() || h.writing != nil || h.clock() >= h.believes {
		return false
	}
	h.write(h.term, e)
	return true
}

func (h *hub) write(term uint64, e events.Event) {
	c := &events.Commit{
		Schema: events.Schema, Incarnation: h.at.Incarnation, Term: term,
		First: h.at.Seq + 1, Parent: h.at.Chain, Time: max(h.at.Time, h.wall()),
	}
	h.writing = &writing{entry: sealed(c, e)}
}

// land is when the log takes the append, or refuses it.
func (h *hub) land() bool {
	w := h.writing
	if w == nil || w.landed || w.lost {
		return false
	}
	w.landed = h.m.append(w.entry)
	w.lost = !w.landed
	return true
}

// learn is when it hears of that.
func (h *hub) learn() bool {
	w := h.writing
	if w == nil || !w.landed && !w.lost {
		return false
	}
	h.writing = nil
	switch {
	case w.lost:
		h.reread(w)
		return true
	case w.entry.Commit.First == h.at.Seq+1:
		h.fold(w.entry)
	}
	if w.opens && h.won > 0 {
		h.term = w.entry.Commit.Term
		h.fleet = fleet.Open(h.termAsOpened(), h.known(), h.end(), [32]byte{})
		return true
	}
	if h.leading() {
		h.noteDurable()
		h.bend(w)
		if w.joining != nil {
			h.grant(*w.joining)
		}
	}
	return true
}

func (h *hub) termAsOpened() fleet.Term {
	t := fleet.Term{Number: h.term, Opened: h.clock(), Before: selfLease, Clock: h.wall()}
	switch h.m.without {
	case takeover:
		t.Opened, t.Before = 0, 0
	case selfLeaseOfBefore:
		t.Before = 0
	}
	return t
}

func (h *hub) noteDurable() {
	h.fleet.Durable(h.known(), h.end(), [32]byte{}, h.clock())
}

// reread is after a conflict.
func (h *hub) reread(w *writing) {
	before := h.at.Term
	h.catchUp()
	switch {
	case w.opens && h.at.Term > before, h.leading() && h.at.Term > h.term:
		h.stepDown()
	case h.leading():
		h.noteDurable()
	}
}

// renew answers a renewal: at once, or when its sender is a member.
func (h *hub) renew(p packet) {
	r := p.renewal
	if len(r.Newest) > 0 {
		if s := h.fleet.Compare(h.m.open(r.Newest).Head); s == fleet.Ahead || s == fleet.Other {
			h.stepDown() // the log lost its end, or another leads
			return
		}
	}
	switch _, member := h.charter.Members[r.Instance]; {
	case member:
		h.grant(p)
	case h.m.excused[r.Instance]:
	case r.Join == nil:
		h.m.send(p.refused())
	case h.m.without == registeredFirst:
		c := h.known()
		c.ChangedAt++
		c.Members = maps.Clone(c.Members)
		if c.Members == nil {
			c.Members = map[events.InstanceID]projections.Member{}
		}
		c.Members[r.Instance] = projections.Member{Instance: r.Instance, Mode: r.Join.Mode, ServeBound: r.Join.ServeBound, RegisteredAt: c.ChangedAt}
		h.fleet.Durable(c, h.end(), [32]byte{}, h.clock())
		h.grant(p)
	default:
		h.join(p)
	}
}

func (h *hub) join(p packet) {
	r := p.renewal
	joins := &events.VerifierRegistered{Verifier: p.edge.name, PoP: p.edge.name, Mode: r.Join.Mode, ServeBound: r.Join.ServeBound, Schema: r.Schema}
	if h.say(events.Event{Subject: r.Instance, Rev: 1, Fact: joins}) {
		h.writing.joining = &p
	}
}

func (p *packet) refused() packet { return packet{edge: p.edge, run: p.run, refuse: true} }

func (h *hub) grant(p packet) {
	r := *p.renewal
	r.Ack = h.asCounted(r.Ack)
	if h.m.without == ticketsOnce && h.tickets[r.Instance] != (head.Ticket{}) {
		r.Ticket = h.tickets[r.Instance]
	}
	g, err := h.fleet.Grant(&r, head.Ticket(h.m.draw()), h.clock())
	switch {
	case errors.Is(err, fleet.ErrAhead):
	case err != nil:
		h.m.send(p.refused())
	default:
		h.heedTwins(p)
		h.tickets[r.Instance] = g.Ticket
		if h.m.without == newestHead {
			g.Head = headOf(h.m.positionAt(h.at.Seq - 1))
		}
		g.Attested = h.wall()
		h.outbox = append(h.outbox, packet{edge: p.edge, run: p.run, asked: p.asked, grant: &g})
	}
}

// sendGrant sends the first of those made, if it still leads.
func (h *hub) sendGrant() bool {
	if len(h.outbox) == 0 {
		return false
	}
	p := h.outbox[0]
	h.outbox = h.outbox[1:]
	if h.mayReply() || h.m.without == repliesInsideSelfLease {
		h.m.send(p)
	}
	return true
}

// heedTwins: of two machines that are one instance, one at most goes on.
func (h *hub) heedTwins(p packet) {
	t := h.m.twins[p.renewal.Instance]
	if t == nil || p.renewal.Ticket == t.shared || p.edge == t.of && p.run <= t.run { // the last was asked for before there were two
		return
	}
	if only := t.only[h.term]; only != nil && only != p.edge {
		h.m.breaks("%s and %s are the same instance, and both go on", only.name, p.edge.name)
	}
	t.only[h.term] = p.edge
}

func (h *hub) acknowledge(a head.Ack) { h.fleet.Ack(h.asCounted(a), h.clock()) }

func (h *hub) asCounted(a head.Ack) head.Ack {
	if h.m.without == ackedChain && a.Seq <= h.at.Seq {
		a.Head = headOf(h.m.positionAt(a.Seq))
	}
	return a
}

// bend takes a rule out of what the fleet makes of a commit.
func (h *hub) bend(w *writing) {
	if _, lease := w.entry.Commit.Events()[0].Fact.(*events.SettingChanged); lease && h.m.without == longestLease {
		h.charter.Lease.Before = h.charter.Lease.Length
		h.fleet = fleet.Open(h.termAsOpened(), h.known(), h.end(), [32]byte{})
	}
}

func (h *hub) goodbye(p packet) bool {
	_, member := h.charter.Members[p.goodbye.Instance]
	return member && h.fleet.MayLeave(*p.goodbye) && h.leaves(p.goodbye.Instance, "goodbye")
}

func (h *hub) leaves(id events.InstanceID, why string) bool {
	if !h.say(events.Event{Subject: id, Rev: 2, Fact: &events.VerifierLeft{Why: why}}) {
		return false
	}
	h.fleet.Leaves(id)
	return true
}

// letLapse says that a member left of which nothing can be in use any more.
func (h *hub) letLapse() bool {
	if !h.leading() {
		return false
	}
	now := h.clock()
	if h.m.without == lapsedAfterFence {
		now += 2 * projections.Fence(h.charter.Lease.Longest(0))
	}
	lapsed := h.fleet.Lapsed(now)
	slices.SortFunc(lapsed, byID)
	return len(lapsed) > 0 && h.leaves(lapsed[0], "lapsed")
}

// release is an operator who says that a machine answers nothing any more, and answers for that.
func (h *hub) release(nth int) bool {
	var all []events.InstanceID
	for id := range h.charter.Members {
		all = append(all, id)
	}
	slices.SortFunc(all, byID)
	if len(all) == 0 || !h.leaves(all[nth%len(all)], "released") {
		return false
	}
	h.m.excused[all[nth%len(all)]] = true
	return true
}

func byID(a, b events.InstanceID) int { return slices.Compare(a[:], b[:]) }

// judge tells every verdict at the first instant at which it can be told: whoever tells it later promises less.
func (h *hub) judge() {
	for seq := h.at.Seq; h.mayReply() && seq > h.m.finished; seq-- {
		v := h.fleet.Verdict(seq, h.clock())
		if h.m.without == needsAll {
			v.State = h.ofThoseHeard(&v)
		}
		if v.State != fleet.Pending {
			h.m.finished = seq
			h.m.tell("          %s: Seq %d is %s", h.name, seq, v.State)
		}
	}
}

// ofThoseHeard is the verdict for a registry that knows of members only what they told it.
func (h *hub) ofThoseHeard(v *fleet.Verdict) fleet.State {
	missing := map[events.InstanceID]bool{}
	for _, m := range v.Missing {
		missing[m.Instance] = true
	}
	for _, r := range h.fleet.Report(h.clock()) {
		if r.Heard && missing[r.Instance] {
			return v.State
		}
	}
	return fleet.Confirmed
}
