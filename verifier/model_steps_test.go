package verifier

import (
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// step is one thing that happens, to one of its kind's subjects. Which and how are taken modulo what there is, so that a
// history stays one when steps are dropped from it.
type step struct{ kind, who, how uint8 }

// happening is a kind of step. It reports whether anything happened.
type happening struct {
	name   string
	weight int // how often a random history has it
	hows   int
	hub    func(h *hub, how int) bool
	edge   func(e *edge, how int) bool
	world  func(m *model, how int) bool
}

var pauses = []time.Duration{300 * time.Millisecond, time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute}

var leases = []string{"5m0s", "10m0s", "20m0s"}

// happenings are all that can happen.
var happenings = []happening{
	{name: "some time passes", weight: 6, hows: len(pauses), world: func(m *model, how int) bool { return m.pass(pauses[how]) }},
	{name: "some time passes under the same lead", weight: 14, hows: len(pauses), world: (*model).passLed},
	{name: "time passes until a fence", weight: 6, hows: 1, hub: func(h *hub, _ int) bool { return h.passUntilFence() }},
	{name: "a packet arrives", weight: 60, hows: 4 * maxAir, world: (*model).arrive},
	{name: "a packet is lost", weight: 3, hows: maxAir, world: (*model).lose},
	{name: "an old append arrives", weight: 4, hows: 1, world: func(m *model, _ int) bool { return m.landAdrift() }},

	{name: "is elected", weight: 3, hows: 1, hub: func(h *hub, _ int) bool { return h.elect() }},
	{name: "stays elected", weight: 12, hows: 1, hub: func(h *hub, _ int) bool { return h.keepLead() }},
	{name: "finds its self-lease over", weight: 6, hows: 1, hub: func(h *hub, _ int) bool { return h.losesLead() }},
	{name: "crashes", weight: 1, hows: 1, hub: func(h *hub, _ int) bool { return h.crash() }},
	{name: "opens a term", weight: 10, hows: 1, hub: func(h *hub, _ int) bool { return h.openTerm() }},
	{name: "has its append land", weight: 20, hows: 1, hub: func(h *hub, _ int) bool { return h.land() }},
	{name: "learns of its append", weight: 20, hows: 1, hub: func(h *hub, _ int) bool { return h.learn() }},
	{name: "revokes a key", weight: 10, hows: 1, hub: func(h *hub, _ int) bool { return h.revoke() }},
	{name: "changes the lease", weight: 1, hows: len(leases), hub: (*hub).changeLease},
	{name: "lets a member lapse", weight: 6, hows: 1, hub: func(h *hub, _ int) bool { return h.letLapse() }},
	{name: "releases a member", weight: 1, hows: maxEdges, hub: (*hub).release},
	{name: "sends a grant", weight: 30, hows: 1, hub: func(h *hub, _ int) bool { return h.sendGrant() }},

	{name: "starts", weight: 20, hows: 1, edge: func(e *edge, _ int) bool { return e.start() }},
	{name: "renews", weight: 40, hows: 1, edge: func(e *edge, _ int) bool { return e.renew() }},
	{name: "applies a commit", weight: 40, hows: 1, edge: func(e *edge, _ int) bool { return e.follow() }},
	{name: "shows a commit", weight: 40, hows: 1, edge: func(e *edge, _ int) bool { return e.show() }},
	{name: "acknowledges", weight: 20, hows: 1, edge: func(e *edge, _ int) bool { return e.acknowledge() }},
	{name: "crashes", weight: 3, hows: 4, edge: (*edge).crash},
	{name: "is rebooted", weight: 1, hows: 1, edge: func(e *edge, _ int) bool { return e.reboot() }},
	{name: "is to stop", weight: 2, hows: 1, edge: func(e *edge, _ int) bool { return e.stop() }},
	{name: "says goodbye", weight: 6, hows: 1, edge: func(e *edge, _ int) bool { return e.saysGoodbye() }},
	{name: "follows a fork", weight: 1, hows: 1, edge: func(e *edge, _ int) bool { return e.fork() }},
	{name: "begins a new index", weight: 1, hows: 1, edge: func(e *edge, _ int) bool { return e.rebuild() }},
	{name: "is suspended", weight: 2, hows: len(pauses), edge: (*edge).suspend},
	{name: "has its wall clock stepped", weight: 1, hows: 2, edge: (*edge).stepWall},
	{name: "is copied", weight: 1, hows: 1, edge: func(e *edge, _ int) bool { return e.copied() }},
	{name: "is doubled", weight: 2, hows: 1, edge: func(e *edge, _ int) bool { return e.doubled() }},
}

// happen lets a step happen and looks at the promises. It reports whether anything did happen.
func (m *model) happen(s step) bool {
	kind := happenings[int(s.kind)%len(happenings)]
	how := int(s.how) % kind.hows
	var happened bool
	who := ""
	switch {
	case kind.world != nil:
		happened = kind.world(m, how)
	case kind.hub != nil:
		h := m.hubs[int(s.who)%len(m.hubs)]
		happened, who = kind.hub(h, how), h.name
	default:
		e := m.edges[int(s.who)%len(m.edges)]
		happened, who = kind.edge(e, how), e.name
	}
	if happened {
		m.tell("%8s  %s %s (%d)  %s", m.now.Truncate(time.Millisecond), who, kind.name, how, m)
		for _, h := range m.hubs {
			h.judge()
		}
		m.check()
	}
	return happened
}

// String is what matters of the world, in a line.
func (m *model) String() string {
	text := fmt.Sprintf("log %d", len(m.log))
	for _, h := range m.hubs {
		if h.won > 0 {
			text += fmt.Sprintf(" | %s term %d at %d believes %s", h.name, h.term, h.at.Seq, (h.believes - h.clock()).Truncate(time.Millisecond))
		}
	}
	for _, e := range m.edges {
		if e.up {
			g := &e.hold.gate
			text += fmt.Sprintf(" | %s at %d floor %d open %t left %s", e.nameOf(g.self), e.at.Seq, g.floor, e.opens(), (g.until - e.clock()).Truncate(time.Millisecond))
		}
	}
	return text
}

func (m *model) pass(by time.Duration) bool {
	m.now += by
	return true
}

// passLed is time in which whoever is elected stays it.
func (m *model) passLed(how int) bool {
	if m.election.holder == nil {
		return false
	}
	m.now += pauses[how]
	m.election.holder.keepLead()
	return true
}

func (m *model) arrive(how int) bool {
	if len(m.air) == 0 {
		return false
	}
	i := how / 4 % len(m.air)
	to := m.hubs[how%2]
	if p := &m.air[i]; p.forHub() && !to.leading() {
		return false
	}
	p := m.take(i, how/2%2 == 1)
	m.tell("          %s", p.String())
	return m.deliver(p, to)
}

func (m *model) lose(how int) bool {
	if len(m.air) == 0 {
		return false
	}
	m.take(how%len(m.air), false)
	return true
}

func (m *model) landAdrift() bool {
	if len(m.adrift) == 0 {
		return false
	}
	e := m.adrift[0]
	m.adrift = m.adrift[1:]
	m.append(e)
	return true
}

// passUntilFence is up to the first instant at which it may call its newest Seq fenced.
func (h *hub) passUntilFence() bool {
	if !h.leading() {
		return false
	}
	v := h.fleet.Verdict(h.at.Seq, h.clock())
	left := v.FencedAt - h.clock()
	if left <= 0 || left > 2*time.Hour {
		return false
	}
	h.m.now += left*1000/time.Duration(h.rate) + time.Microsecond
	h.keepLead()
	return true
}

func (h *hub) revoke() bool {
	return h.say(events.Event{Project: "demo", Subject: [16]byte{1}, Rev: 1, Fact: &events.Disabled{}})
}

func (h *hub) changeLease(how int) bool {
	if h.charter.Lease.Length.String() == leases[how] {
		return false
	}
	return h.say(events.Event{Fact: &events.SettingChanged{Name: projections.LeaseSetting, Value: leases[how]}})
}

func (e *edge) suspend(how int) bool {
	e.lost += pauses[how]
	return e.m.pass(pauses[how])
}

func (e *edge) stepWall(how int) bool {
	e.wall = []time.Duration{-24 * time.Hour, time.Hour}[how]
	return true
}
