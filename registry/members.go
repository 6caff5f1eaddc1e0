package registry

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

// SelfLease is how long behind its last successful put an election may be believed in.
const SelfLease = 2 * time.Second

// HeadKeeper keeps how far the log came, so that one which lost its end is known when it is seen again. Keep is for a head that is
// about to be signed, and returns once power may fail. Note is for one that callers are about to be answered by, and returns once
// the process may end. Each is called by one goroutine at a time. Kept is the newest of both.
type HeadKeeper interface {
	Keep(SignedHead) error
	Note(SignedHead) error
	Kept() (SignedHead, bool)
}

// SignedHead is a head that was signed or answered by, and where in the stream its last commit stands.
type SignedHead struct {
	head.Head
	StreamSeq uint64
}

// members is what one term knows of the fleet, for many goroutines.
type members struct {
	sync.Mutex
	*fleet.Fleet
}

// fleetActor is whom the log names for what verifiers do.
const fleetActor = "_fleet"

// patience with an instance that has applied a commit whose acknowledgement has not come here yet.
const aheadPatience = 2 * time.Second

// Renew answers a renewal of the verifier's instance with a signed grant. An instance that joins is made a member first. It fails
// with a Refusal.
func (s *Service) Renew(ctx context.Context, verifier string, r head.Renewal) ([]byte, error) {
	l := s.leading.Load()
	switch {
	case l == nil:
		return nil, errStandby
	case len(s.opts.SigningKey) != ed25519.PrivateKeySize:
		return nil, refuse(Unavailable, "this registry grants no leases: it was started without the log's signing key (--signing-key)")
	}
	if err := s.compareHeads(l, &r); err != nil {
		return nil, err
	}
	if err := s.admit(ctx, l, verifier, &r); err != nil {
		return nil, err
	}
	g, err := s.grant(ctx, l, &r)
	if err != nil {
		return nil, s.refuseGrant(verifier, &r, err)
	}
	if err := s.keepHead(); err != nil {
		l.end(err) // another can lead that can also grant leases
		return nil, errStandby
	}
	signed := g.Sign(s.opts.SigningKey)
	if s.leading.Load() != l || s.opts.Clock.Elapsed() >= l.SelfLease() {
		return nil, errStandby
	}
	return signed, nil
}

// compareHeads halts the registry when a head that it signed is no prefix of the log (rule ROLLBACK). What another key signed, or
// what was signed of another incarnation, says nothing about this log. Who signed a head is asked only of one that would halt it:
// to verify the signatures of all would be the most of what a renewal costs.
func (s *Service) compareHeads(l *leading, r *head.Renewal) error {
	newest, err := head.Peek(r.Newest)
	l.members.Lock()
	standing := l.members.Compare(newest.Head)
	end := l.members.End()
	l.members.Unlock()
	later, contradicts := newest.Term > l.term, standing == fleet.Ahead || standing == fleet.Other
	halts := err == nil && newest.Incarnation == end.Incarnation && (later || contradicts)
	switch {
	case !halts || !head.IsSigned(r.Newest, s.catalog.Charter().SigningKeys...):
		return nil
	case later:
		l.end(fmt.Errorf("%w: a verifier was granted something in term %d, this is term %d", errDeposed, newest.Term, l.term))
		return errStandby
	default:
		lost := fmt.Errorf("%w: a verifier holds a signed head at Seq %d with chain hash %s, and the log ends at Seq %d with %s",
			events.ErrFork, newest.Seq, newest.Chain, end.Seq, end.Chain)
		l.end(lost)
		return lost
	}
}

// admit makes sure that the instance is a member, as the log has it.
func (s *Service) admit(ctx context.Context, l *leading, verifier string, r *head.Renewal) error {
	l.members.Lock()
	m, known := l.members.Member(r.Instance)
	l.members.Unlock()
	if known {
		if m.Verifier != verifier {
			return refuse(Forbidden, "instance %s belongs to verifier %q", r.Instance, m.Verifier)
		}
		return nil
	}
	if err := s.wasReleased(r.Instance); err != nil {
		return err
	}
	if r.Join == nil || r.Instance.IsZero() {
		return refuse(Stranger, "%v", fleet.ErrStranger)
	}
	joins := &events.VerifierRegistered{Verifier: verifier, PoP: r.Join.PoP, Mode: r.Join.Mode,
		ServeBound: r.Join.ServeBound, Schema: r.Schema, Version: r.Join.Version}
	if err := s.checkJoin(joins); err != nil {
		return err
	}
	return s.changeMember(ctx, l, Command{Verb: memberJoins, Actor: fleetActor, member: &member{instance: r.Instance, joins: joins}})
}

// checkJoin refuses what no log should have to keep.
func (s *Service) checkJoin(j *events.VerifierRegistered) error {
	const longestVersion, longestServe = 100, uint64(24 * time.Hour / time.Millisecond)
	if err := errors.Join(events.CheckActor(j.Verifier), events.CheckDescription(j.PoP), events.CheckDescription(j.Version)); err != nil {
		return refuse(Invalid, "%v", err)
	}
	serves := j.Mode == events.ModeServe && j.ServeBound > 0 && j.ServeBound <= longestServe
	denies := j.Mode == events.ModeDeny && j.ServeBound == 0
	switch schema := s.catalog.Charter().Schema; {
	case len(j.Version) > longestVersion:
		return refuse(Invalid, "a version has at most %d bytes", longestVersion)
	case !serves && !denies:
		return refuse(Invalid, "past its lease a verifier denies, or serves for a bound of at most 24 h")
	case j.Schema < schema:
		return refuse(Conflict, "the log is of schema %d and this verifier understands schema %d: upgrade it", schema, j.Schema)
	}
	return nil
}

func (s *Service) wasReleased(id events.InstanceID) error {
	r := s.catalog.Read()
	release, err := r.Release(id)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if release.Seq > 0 {
		return refuse(Released, "instance %s was released by %s as a machine that is no more: %s. It serves nothing from here on; "+
			"if it lives, restart it", id, release.Actor, release.Reason)
	}
	return nil
}

// changeMember waits until the log says so.
func (s *Service) changeMember(ctx context.Context, l *leading, c Command) error {
	under := s.enqueue(ctx, l, newCall(&c))
	_, err := under.result(ctx)
	return err
}

// grant waits for the log, as far as it may be on its way here, if the instance is ahead.
func (s *Service) grant(ctx context.Context, l *leading, r *head.Renewal) (head.Grant, error) {
	var ticket head.Ticket
	_, _ = rand.Read(ticket[:]) // never fails: it ends the process instead
	look := time.NewTicker(selfLeaseLook)
	defer look.Stop()
	for waited := time.Duration(0); ; waited += selfLeaseLook {
		l.members.Lock()
		g, err := l.members.Grant(r, ticket, s.opts.Clock.Elapsed())
		l.members.Unlock()
		if !errors.Is(err, fleet.ErrAhead) || waited >= aheadPatience {
			if err == nil {
				g.Attested, _ = s.attest(l)
			}
			return g, err
		}
		select {
		case <-look.C:
		case <-l.over.Done():
			return g, errStandby
		case <-ctx.Done():
			return g, err
		}
	}
}

func (s *Service) refuseGrant(verifier string, r *head.Renewal, err error) error {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return err
	case errors.Is(err, fleet.ErrStranger):
		return refuse(Stranger, "%v", err)
	case errors.Is(err, fleet.ErrLate):
		return refuse(Unavailable, "%v", err)
	case errors.Is(err, fleet.ErrTorn):
		s.opts.Observe(InstanceTorn{Verifier: verifier, Instance: r.Instance})
		return refuse(Stranger, "%v", err)
	}
	const apart = 10 * time.Second
	now, last := s.opts.Clock.Elapsed(), time.Duration(s.aheadTold.Load())
	if (last == 0 || now-last >= apart) && s.aheadTold.CompareAndSwap(int64(last), int64(now)+1) {
		s.opts.Observe(VerifierAhead{Verifier: verifier, Instance: r.Instance, Applied: r.Head})
	}
	return refuse(Unavailable, "%v: it is at Seq %d; either the log lost its end, or the verifier follows another one", err, r.Seq)
}

// keepHead makes the head that is about to be signed, or a newer one, survive a loss of power.
func (s *Service) keepHead() error {
	if s.opts.Heads == nil {
		return nil
	}
	s.keeping.Lock()
	defer s.keeping.Unlock()
	at := s.catalog.Position() // no older than the grant's
	if err := s.opts.Heads.Keep(signedHead(at)); err != nil {
		return fmt.Errorf("keep the head that is to be signed, without which nobody is granted a lease: %w", err)
	}
	return nil
}

func signedHead(at events.Position) SignedHead { return SignedHead{headOf(at), at.StreamSeq} }

// Acknowledge counts what an instance of the verifier says it has applied.
func (s *Service) Acknowledge(verifier string, a head.Ack) {
	if l := s.leading.Load(); l != nil && s.catalog.Charter().Members[a.Instance].Verifier == verifier {
		l.members.Lock()
		defer l.members.Unlock()
		l.members.Ack(a, s.opts.Clock.Elapsed())
	}
}

// Goodbye ends the membership of an instance that answers nothing any more. It returns once the log says so.
func (s *Service) Goodbye(ctx context.Context, verifier string, g head.Goodbye) error {
	l := s.leading.Load()
	if l == nil {
		return errStandby
	}
	m, known := s.catalog.Charter().Members[g.Instance]
	if !known {
		return nil // said before
	}
	l.members.Lock()
	may := m.Verifier == verifier && l.members.MayLeave(g)
	if may {
		l.members.Leaves(g.Instance)
	}
	l.members.Unlock()
	if !may {
		return refuse(Forbidden, "this is not the machine that is instance %s", g.Instance)
	}
	err := s.leave(ctx, l, g.Instance, WhyGoodbye)
	if err != nil { // it may be written yet; if not, the instance lapses
		l.members.Lock()
		l.members.Stays(g.Instance)
		l.members.Unlock()
	}
	return err
}

func (s *Service) leave(ctx context.Context, l *leading, id events.InstanceID, why string) error {
	return s.changeMember(ctx, l, Command{Verb: memberLeaves, Actor: fleetActor, member: &member{instance: id, why: why}})
}

// watchMembers says of members that they left once nothing that they were granted can be in use, and tells of those that need
// attention.
func (s *Service) watchMembers(ctx context.Context, l *leading) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	ringing := map[events.InstanceID]bool{}
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		s.letLapse(ctx, l)
		s.tellAlarms(l, ringing)
	}
}

func (s *Service) letLapse(ctx context.Context, l *leading) {
	l.members.Lock()
	lapsed := l.members.Lapsed(s.opts.Clock.Elapsed())
	for _, id := range lapsed {
		l.members.Leaves(id)
	}
	l.members.Unlock()
	for _, id := range lapsed {
		if err := s.leave(ctx, l, id, WhyLapsed); err != nil {
			return // the term is over, and the next one finds them
		}
	}
}

func (s *Service) tellAlarms(l *leading, ringing map[events.InstanceID]bool) {
	view, err := s.fleetView(l)
	if err != nil {
		return // the term is over
	}
	there := map[events.InstanceID]bool{}
	for _, v := range view.Verifiers {
		there[v.Instance] = true
		if rings := len(v.Alarms) > 0; rings != ringing[v.Instance] {
			ringing[v.Instance] = rings
			s.opts.Observe(VerifierAlarm{Verifier: v, Rings: rings})
		}
	}
	maps.DeleteFunc(ringing, func(id events.InstanceID, _ bool) bool { return !there[id] })
}
