package verifier

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

// serveBound is how long past its lease a verifier of mode serve goes on.
const serveBound = time.Hour

// edge is a machine with a verifier, wired as Verifier wires it: its disk, what its tmpfs keeps, and the process while there is one.
type edge struct {
	m    *model
	name string
	mode events.Mode
	rate int64
	wall time.Duration // by which its wall clock is off
	lost time.Duration // by which a clock that stops in suspend would be

	at      events.Position // of the index, which readers see
	durable events.Position // of the index, which a crash leaves at least
	kept    *record
	forked  events.Seq // up to here its index is of the log; 0: all of it

	run       int // number of the process
	up        bool
	session   *session
	hold      *hold
	proof     []byte
	newest    events.Seq
	unshown   []events.Entry // in the index, and not in the gate
	closing   bool           // a clean stop has begun
	said      *head.Goodbye  // that is to be sent
	vouched   events.Instant // newest time it was told,
	vouchedAt time.Duration  // and the true time then
}

func (e *edge) nameOf(id events.InstanceID) string {
	return fmt.Sprintf("%s:%d", e.name, id[7])
}

func (e *edge) clock() time.Duration {
	now := elapsed(e.m.now, e.rate)
	if e.m.without == suspendCounts {
		now -= e.lost
	}
	return now
}

func (e *edge) wallNow() time.Time {
	return (noonOfTheModel + events.Instant((e.m.now + e.wall).Milliseconds())).Time()
}

// start is a process on what the machine kept.
func (e *edge) start() bool {
	if e.up {
		return false
	}
	e.up, e.closing, e.said = true, false, nil
	e.run++
	e.proof, e.newest, e.unshown, e.vouched = nil, 0, nil, 0
	e.session = &session{rec: record{Instance: e.m.draw()}}
	if e.kept != nil {
		e.session.rec = *e.kept
	}
	rec := &e.session.rec
	if e.m.without == floorKept {
		rec.Floor = head.Head{}
	}
	e.hold = newHold(e.at, rec.Floor, rec.Instance)
	if e.m.without == floorOfOneHistory {
		e.hold.owed, e.hold.gate.quarantined = head.Head{}, nil
	}
	if len(rec.Grant) > 0 {
		e.newest, e.proof = e.m.open(rec.Grant).Seq, rec.Grant
		_ = e.hold.resume(e.m.open(rec.Grant), rec.Grant, rec.Asked, e.clock())
	}
	return true
}

// keep is what put does: the next process finds it.
func (e *edge) keep() {
	kept := e.session.rec
	e.kept = &kept
}

// crash loses so many commits of the index's tail, where they were not durable.
func (e *edge) crash(commits int) bool {
	if !e.up {
		return false
	}
	e.up = false
	switch {
	case commits > 0 && e.forked > 0:
		e.at = e.durable
	case commits > 0:
		e.at = e.m.positionAt(max(e.durable.Seq, e.at.Seq-min(e.at.Seq, events.Seq(commits))))
	}
	e.durable = e.at
	if e.at.Seq <= e.forked {
		e.forked = 0
	}
	return true
}

// reboot takes away what tmpfs kept.
func (e *edge) reboot() bool {
	if e.up || e.kept == nil {
		return false
	}
	e.kept = nil
	return true
}

// knows is how far its index is of the log.
func (e *edge) knows() events.Seq {
	if e.forked > 0 {
		return e.forked
	}
	return e.at.Seq
}

func (e *edge) opens() bool {
	g := e.hold.gate
	if e.m.without == gateFloor {
		g.floor = 0
	}
	return g.open(e.clock())
}

func (e *edge) checkClock() {
	if e.vouched == 0 {
		return
	}
	says := e.hold.gate.instant(e.wallNow(), e.clock())
	if e.m.without == attestedTime {
		says = events.InstantOf(e.wallNow())
	}
	since := (e.m.now - e.vouchedAt) / 100 * 99
	if least := e.vouched + events.Instant(since.Milliseconds()) - 1; says < least {
		e.m.breaks("the clock of %s is %d ms behind the time it was told", e.name, least-says)
	}
}

// renew sends what renewal makes.
func (e *edge) renew() bool {
	if !e.up || e.closing {
		return false
	}
	rec := &e.session.rec
	if e.m.without != renewalKeepsFloor {
		_ = e.session.acked(headOf(e.at), e.hold.using)
		e.keep()
	}
	r := head.Renewal{
		Ack:    head.Ack{Instance: rec.Instance, Head: headOf(e.at)},
		Ticket: rec.Ticket, Newest: e.proof, Schema: events.Schema, Nonce: e.m.draw(),
	}
	if !rec.Member {
		r.Join = &head.Join{Mode: e.mode}
		if e.mode == events.ModeServe {
			r.Join.ServeBound = uint64(serveBound.Milliseconds())
		}
	}
	e.hold.ask(r.Nonce, e.clock())
	e.acknowledged(r.Ack)
	e.m.send(packet{renewal: &r, edge: e, run: e.run, asked: e.m.now})
	return true
}

func (e *edge) acknowledged(a head.Ack) {
	e.m.acked[a.Instance] = max(e.m.acked[a.Instance], a.Seq)
}

// hear is the answer to a renewal.
func (e *edge) hear(p packet) {
	switch {
	case e.closing:
	case p.refuse:
		e.beginAnew()
	default:
		e.granted(p)
	}
}

func (e *edge) granted(p packet) {
	g, term := *p.grant, e.hold.term
	signed := e.m.sign(g)
	e.bend(&g)
	err := e.hold.grant(g, signed, e.clock())
	e.hold.term = term
	switch {
	case err != nil:
		return
	case g.Term < term:
		e.m.breaks("%s took a grant of term %d when its log was in term %d", e.nameOf(g.Instance), g.Term, term)
	}
	e.m.leave[g.Instance] = max(e.m.leave[g.Instance], p.asked+g.Lease)
	if g.Attested >= e.vouched {
		e.vouched, e.vouchedAt = g.Attested, e.m.now
	}
	if g.Seq >= e.newest {
		e.newest, e.proof = g.Seq, signed
	}
	_ = e.session.granted(&g, e.hold.using)
	e.keep()
}

// bend takes a rule out of what the hold does with a grant.
func (e *edge) bend(g *head.Grant) {
	switch e.m.without {
	case usableOnceApplied:
		g.Head = headOf(e.at)
	case equalChain:
		if e.forked > 0 {
			g.Head = headOf(e.at)
		}
	case countsFromSending:
		for i := range e.hold.asked {
			e.hold.asked[i].at = e.clock()
		}
	case newestTerm:
		e.hold.term = 0
	}
}

// beginAnew is after it was told that the instance is no member.
func (e *edge) beginAnew() {
	_ = e.session.beginAnew()
	e.session.rec.Instance = e.m.draw()
	e.keep()
	if e.m.without == grantOfOneInstance {
		e.hold.gate.self = e.session.rec.Instance
		return
	}
	e.hold.beginAnew(e.session.rec.Instance)
}

// follow puts the next commit into the index.
func (e *edge) follow() bool {
	if !e.up || int(e.at.Seq) >= len(e.m.log) || e.hold.gate.quarantined != nil {
		return false
	}
	entry := e.m.log[e.at.Seq]
	next, err := e.at.Next(entry)
	if err != nil {
		e.quarantine(err)
		return true
	}
	e.at = next
	e.unshown = append(e.unshown[:len(e.unshown):len(e.unshown)], entry)
	return true
}

// fork puts a commit into the index that the log does not have: a mirror that lost its way.
func (e *edge) fork() bool {
	if !e.up || e.at.Seq == 0 || e.forked > 0 || e.hold.gate.quarantined != nil {
		return false
	}
	c := &events.Commit{Schema: events.Schema, Incarnation: inc, Term: e.at.Term, First: e.at.Seq + 1, Parent: e.at.Chain, Time: e.at.Time}
	entry := sealed(c, events.Event{Subject: e.m.draw(), Rev: 1, Fact: &events.Edited{}})
	e.forked = e.at.Seq
	e.at, _ = e.at.Next(entry)
	e.unshown = append(e.unshown[:len(e.unshown):len(e.unshown)], entry)
	return true
}

// show tells the gate of what is in the index.
func (e *edge) show() bool {
	if !e.up || len(e.unshown) == 0 {
		return false
	}
	if err := e.hold.apply(e.unshown[0]); err != nil {
		e.quarantine(err)
	}
	e.unshown = e.unshown[1:]
	return true
}

func (e *edge) quarantine(why error) {
	e.hold.quarantine(why)
	_ = e.session.disown()
	e.keep()
}

// rebuild begins a new index.
func (e *edge) rebuild() bool {
	if !e.up || e.closing || e.hold.gate.quarantined != nil {
		return false
	}
	e.at, e.durable, e.forked, e.unshown = events.Position{}, events.Position{}, 0, nil
	floor := e.hold.highest()
	if kept := e.session.rec.Floor; kept.Seq > floor.Seq && e.m.without != floorOutlivesIndex {
		floor = kept
	}
	e.hold.beginBehind(e.at, floor, e.hold.gate.self)
	if e.m.without == timeOutlivesIndex {
		e.hold.gate.attested = 0
	}
	return true
}

// acknowledge is what ackNow does.
func (e *edge) acknowledge() bool {
	if !e.up || e.closing || !e.session.rec.Member {
		return false
	}
	rec := &e.session.rec
	_ = e.session.acked(headOf(e.at), e.hold.using)
	e.keep()
	a := head.Ack{Instance: rec.Instance, Head: headOf(e.at)}
	if next := e.at.Seq + 1; e.m.without == readersSeeFirst && int(next) <= len(e.m.log) {
		a.Head = headOf(e.m.positionAt(next))
	} else {
		e.acknowledged(a)
	}
	e.m.send(packet{ack: &a, edge: e})
	return true
}

var errStopped = errors.New("stopped")

// stop is the clean end of a process, up to where it knows what to say.
func (e *edge) stop() bool {
	if !e.up || e.closing {
		return false
	}
	e.hold.quarantine(errStopped)
	e.closing = true
	return true
}

// saysGoodbye is in two steps, between which it may crash: the machine forgets the instance, and tells the registry of it.
func (e *edge) saysGoodbye() bool {
	if !e.up || !e.closing {
		return false
	}
	rec := &e.session.rec
	forgets := func() {
		_ = e.session.beginAnew()
		rec.Instance = e.m.draw()
		e.keep()
	}
	first := e.said == nil
	if first {
		e.said = &head.Goodbye{Instance: rec.Instance, Ticket: rec.Ticket}
	}
	if !rec.Member && first {
		e.up = false
		return true
	}
	if first != (e.m.without == forgottenFirst) {
		forgets()
	} else {
		e.m.send(packet{goodbye: e.said, edge: e})
	}
	e.up = first
	return true
}

// copied is another machine with a copy of the disk.
func (e *edge) copied() bool {
	if len(e.m.edges) == maxEdges || e.durable.Seq == 0 {
		return false
	}
	copied := &edge{m: e.m, name: string(rune('p' + len(e.m.edges))), mode: e.mode, rate: e.rate, at: e.durable, durable: e.durable}
	if e.forked < e.durable.Seq {
		copied.forked = e.forked
	}
	e.m.edges = append(e.m.edges, copied)
	return true
}

// doubled is that with what tmpfs keeps, which the protocol takes not to happen unnoticed: both are the same instance.
func (e *edge) doubled() bool {
	if e.kept == nil || !e.kept.Member || e.up || e.m.twins[e.kept.Instance] != nil || !e.copied() {
		return false
	}
	e.m.edges[len(e.m.edges)-1].kept = e.kept
	e.m.excused[e.kept.Instance] = true
	e.m.twins[e.kept.Instance] = &twins{shared: e.kept.Ticket, of: e, run: e.run, only: map[uint64]*edge{}}
	return true
}
