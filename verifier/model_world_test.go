package verifier

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

// model is a world in which everything that the protocol speaks of exists once, and happens one step at a time: a log, two
// registries that are told that they lead whenever it suits, machines with verifiers, a network that keeps, loses and repeats,
// and the time, of which each clock has an idea of its own. What decides is the code itself: fleet.Fleet, hold, gate, session,
// events.Position and projections.Charter. The model has only the wiring between them.
type model struct {
	without  rule          // taken out of the protocol
	now      time.Duration // the true time
	drawn    uint64        // ids, nonces and tickets so far
	log      []events.Entry
	adrift   []events.Entry // sent to the log by a registry that crashed
	election struct {
		holder   *hub
		revision uint64
	}
	hubs   []*hub
	edges  []*edge
	air    []packet
	grants []head.Grant // ever given

	finished events.Seq                          // newest that a verdict was given on
	acked    map[events.InstanceID]events.Seq    // what each instance ever sent
	leave    map[events.InstanceID]time.Duration // until when its grants let it answer, at most
	excused  map[events.InstanceID]bool          // somebody vouched for it, or it runs twice
	twins    map[events.InstanceID]*twins

	broken string // the promise that was broken, and how
	tell   func(format string, args ...any)
}

// The bounds that keep the world small.
const (
	maxAir   = 10
	maxEdges = 5
)

// noonOfTheModel is when the true time is 0.
const noonOfTheModel = events.Instant(1_800_000_000_000)

// newModel is a world with an empty fleet and a log that was just opened.
func newModel(without rule, rates []int64, modes ...events.Mode) *model {
	m := &model{
		without: without, tell: func(string, ...any) {},
		acked: map[events.InstanceID]events.Seq{}, leave: map[events.InstanceID]time.Duration{},
		excused: map[events.InstanceID]bool{}, twins: map[events.InstanceID]*twins{},
	}
	opened := &events.Commit{Schema: events.Schema, Incarnation: inc, First: 1, Time: noonOfTheModel}
	m.log = append(m.log, sealed(opened, events.Event{Fact: &events.LogOpened{Incarnation: inc}}))
	for i, name := range []string{"A", "B"} {
		m.hubs = append(m.hubs, &hub{m: m, name: name, rate: rates[i], tickets: map[events.InstanceID]head.Ticket{}})
	}
	for i, mode := range modes {
		m.edges = append(m.edges, &edge{m: m, name: string(rune('p' + i)), mode: mode, rate: rates[2+i]})
	}
	return m
}

// begin makes it a world in which the registry A leads, and all verifiers serve.
func (m *model) begin() {
	a := m.hubs[0]
	a.elect()
	a.openTerm()
	a.land()
	a.learn()
	for _, e := range m.edges {
		e.start()
		e.renew()
		a.renew(m.take(0, false))
		a.land()
		a.learn()
		a.sendGrant()
		e.hear(m.take(0, false))
	}
	for _, e := range m.edges {
		for e.follow() {
			e.show()
		}
	}
}

// takeOver makes it one in which B has led for a second, elected too early: A believes that it leads for another.
func (m *model) takeOver() {
	b := m.hubs[1]
	b.elect()
	b.openTerm()
	b.land()
	b.learn()
	m.now += time.Second
}

// sealed makes the entry of a commit with the event.
func sealed(c *events.Commit, e events.Event) events.Entry {
	if err := c.Add(e); err != nil {
		panic(err)
	}
	body, err := c.Encode()
	if err != nil {
		panic(err)
	}
	return events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: uint64(c.First)}
}

// draw gives 16 bytes that were never given.
func (m *model) draw() (bytes [16]byte) {
	m.drawn++
	binary.BigEndian.PutUint64(bytes[:], m.drawn)
	return bytes
}

// elapsed is what a clock of so many thousandths shows at a true time.
func elapsed(at time.Duration, rate int64) time.Duration {
	return time.Hour + at/1000*time.Duration(rate)
}

// append puts an entry at the log's end if it was made for there: of two writers one wins.
func (m *model) append(e events.Entry) bool {
	last := m.log[len(m.log)-1]
	if e.Commit.First != last.Commit.First+1 || e.Commit.Parent != last.Chain {
		return false
	}
	m.log = append(m.log, e)
	return true
}

// positionAt is the position behind a Seq of the log.
func (m *model) positionAt(seq events.Seq) events.Position {
	if seq == 0 {
		return events.Position{}
	}
	e := m.log[seq-1]
	return events.Position{
		Incarnation: e.Commit.Incarnation, Seq: seq, Chain: e.Chain, Term: e.Commit.Term, Time: e.Commit.Time, StreamSeq: e.StreamSeq,
	}
}

// twins are two machines that are one instance.
type twins struct {
	shared head.Ticket      // that both had
	of     *edge            // that was doubled,
	run    int              // and its last process before that
	only   map[uint64]*edge // in each term, the one that was granted something by a ticket of its own
}

// packet is a message under way. What answers a renewal reaches only the process that asked.
type packet struct {
	renewal *head.Renewal
	ack     *head.Ack
	goodbye *head.Goodbye

	edge   *edge
	run    int
	asked  time.Duration // true time
	grant  *head.Grant
	refuse bool // an answer without a grant: the instance is no member
}

func (p *packet) forHub() bool { return p.renewal != nil || p.ack != nil || p.goodbye != nil }

func (p *packet) String() string {
	switch {
	case p.renewal != nil:
		return fmt.Sprintf("the renewal of %s, applied %d", p.edge.nameOf(p.renewal.Instance), p.renewal.Seq)
	case p.ack != nil:
		return fmt.Sprintf("the acknowledgement of %d by %s", p.ack.Seq, p.edge.nameOf(p.ack.Instance))
	case p.goodbye != nil:
		return "the goodbye of " + p.edge.nameOf(p.goodbye.Instance)
	case p.grant != nil:
		return fmt.Sprintf("the grant for %s, head %d, term %d", p.edge.nameOf(p.grant.Instance), p.grant.Seq, p.grant.Term)
	default:
		return "the refusal for " + p.edge.name
	}
}

func (m *model) send(p packet) {
	if len(m.air) == maxAir {
		m.air = m.air[1:]
	}
	m.air = append(m.air[:len(m.air):len(m.air)], p)
}

// take gives the packet, and removes it unless it is to arrive again.
func (m *model) take(i int, keep bool) packet {
	p := m.air[i]
	if !keep {
		m.air = append(m.air[:i:i], m.air[i+1:]...)
	}
	return p
}

func (m *model) deliver(p packet, to *hub) bool {
	switch {
	case p.forHub() && !to.leading():
		return false
	case p.renewal != nil:
		to.renew(p)
	case p.ack != nil:
		to.acknowledge(*p.ack)
	case p.goodbye != nil:
		return to.goodbye(p)
	case !p.edge.up || p.run != p.edge.run:
		return false
	default:
		p.edge.hear(p)
	}
	return true
}

// sign and open stand for a signature: what is signed is remembered.
func (m *model) sign(g head.Grant) []byte {
	m.grants = append(m.grants, g)
	return binary.BigEndian.AppendUint64(nil, uint64(len(m.grants)-1))
}

func (m *model) open(signed []byte) head.Grant { return m.grants[binary.BigEndian.Uint64(signed)] }

// breaks notes the first broken promise.
func (m *model) breaks(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
		m.tell("BROKEN: %s", m.broken)
	}
}

// hold the promises against what a check that begins now would meet.
func (m *model) check() {
	for _, e := range m.edges {
		if !e.up {
			continue
		}
		e.checkClock()
		id := e.hold.gate.self
		if !e.opens() || m.excused[id] {
			continue
		}
		switch {
		case e.knows() < m.finished:
			m.breaks("%s answers from Seq %d after a verdict on Seq %d", e.nameOf(id), e.knows(), m.finished)
		case e.at.Seq < m.acked[id]:
			m.breaks("%s answers from Seq %d after it acknowledged Seq %d", e.nameOf(id), e.at.Seq, m.acked[id])
		case e.mode == events.ModeDeny && m.now >= m.leave[id]:
			m.breaks("%s answers at %s, beyond its lease, which ended at %s", e.nameOf(id), m.now, m.leave[id])
		}
	}
}
