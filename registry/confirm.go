package registry

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

// usualWait is how long a caller waits for a verdict who does not say.
const usualWait = 30 * time.Second

// verdictLook is how often a verdict that waits for clocks is looked at.
const verdictLook = time.Second

// openFleet begins what this term knows of the verifiers.
func (s *Service) openFleet(term uint64) *members {
	now, _ := s.attested.now()
	at, root := s.catalog.Head()
	t := fleet.Term{Number: term, Opened: s.opts.Clock.Elapsed(), Before: SelfLease, Clock: now}
	return &members{Fleet: fleet.Open(t, s.catalog.Charter(), headOf(at), root)}
}

func headOf(p events.Position) head.Head {
	return head.Head{Incarnation: p.Incarnation, Seq: p.Seq, Chain: p.Chain}
}

// noteEnd keeps on this machine how far the log came, before anybody is answered by it: a second pair of eyes. Where it cannot be
// written the log is durable all the same; the next grant, for which a head must be kept beside it, makes that known.
func (s *Service) noteEnd() {
	if s.opts.Heads != nil {
		_ = s.opts.Heads.Note(signedHead(s.catalog.Position()))
	}
}

// noteDurable tells the fleet how far the log is durable.
func (s *Service) noteDurable() {
	if l := s.leading.Load(); l != nil {
		at, root := s.catalog.Head()
		l.members.Lock()
		l.members.Durable(s.catalog.Charter(), headOf(at), root, s.opts.Clock.Elapsed())
		l.members.Unlock()
	}
}

// notePassed tells it of commits that another wrote, and that others have followed.
func (s *Service) notePassed(entries []events.Entry) {
	if l := s.leading.Load(); l != nil {
		l.members.Lock()
		defer l.members.Unlock()
		for _, e := range entries {
			end := head.Head{Incarnation: e.Commit.Incarnation, Seq: e.Commit.Last(), Chain: e.Chain}
			l.members.Passed(end, s.opts.Clock.Elapsed())
		}
	}
}

// awaitVerdict puts into a reply what becomes of it within the time that the caller gives.
func (s *Service) awaitVerdict(ctx context.Context, l *leading, r *Request, done result) {
	reply, ok := done.reply.(interface{ answer() *Answer })
	if !ok {
		return
	}
	receipt, err := s.receipt(ctx, l, done.seq, waitTimeout(r, usualWait))
	if err == nil { // else it stays recorded, and that is true
		reply.answer().Confirmation = receipt
	}
}

// longestWait keeps callers who wait from taking all the places there are. They may ask again.
const longestWait = 5 * time.Minute

func waitTimeout(r *Request, usual time.Duration) time.Duration {
	if d, err := ParseDuration(r.WaitTimeout); err == nil {
		return min(d, longestWait)
	}
	return usual
}

// receipt waits for a verdict on a durable Seq and writes it down. A final one is kept.
func (s *Service) receipt(ctx context.Context, l *leading, seq events.Seq, patience time.Duration) (*Confirmation, error) {
	v := s.verdict(ctx, l, seq, patience)
	c, err := s.describe(&v)
	if err != nil {
		return nil, err
	}
	if _, active := s.Active(); !active || s.leading.Load() != l {
		return nil, errStandby
	}
	if v.State == fleet.Confirmed || v.State == fleet.Fenced {
		kept, err := json.Marshal(c)
		if err == nil {
			err = s.catalog.KeepReceipt(v.First, v.Seq, kept)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// verdict is the one that stands when nobody is missing, all that are missing are fenced, or patience ends.
func (s *Service) verdict(ctx context.Context, l *leading, seq events.Seq, patience time.Duration) fleet.Verdict {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	look := time.NewTimer(verdictLook)
	defer look.Stop()

	l.members.Lock()
	defer l.members.Unlock()
	w := l.members.Await(seq)
	defer l.members.Forget(w)
	for {
		now := s.opts.Clock.Elapsed()
		v := l.members.Verdict(seq, now)
		if v.State != fleet.Pending || patience == 0 {
			return v
		}
		look.Reset(min(verdictLook, v.FencedAt-now))
		l.members.Unlock()
		select {
		case <-w.Confirmed():
		case <-look.C:
		case <-enough.C:
			patience = 0
		case <-ctx.Done():
			patience = 0
		case <-l.over.Done():
			patience = 0
		}
		l.members.Lock()
	}
}

// describe puts a verdict into the words of a receipt.
func (s *Service) describe(v *fleet.Verdict) (*Confirmation, error) {
	r := &Receipt{Verifiers: v.Members, Acked: v.Members - len(v.Missing), Waiting: []Waiting{}}
	wall := func(elapsed time.Duration) *events.Instant {
		if elapsed == fleet.Never {
			return nil
		}
		at := s.dateNow() + events.Instant((elapsed-s.opts.Clock.Elapsed())/time.Millisecond)
		return &at
	}
	for _, m := range v.Missing {
		r.Waiting = append(r.Waiting, Waiting{Instance: m.Instance, Verifier: m.Verifier, PoP: m.PoP, Mode: m.Mode, StopsAt: wall(m.StopsAt)})
	}
	if len(v.Missing) > 0 {
		r.FencedAt = wall(v.FencedAt)
	}
	if m, known := s.catalog.Charter().Members[v.Slowest]; known {
		r.Slowest = &Slowest{Instance: m.Instance, Verifier: m.Verifier, PoP: m.PoP, Ms: v.Took.Milliseconds()}
	}
	var err error
	r.Released, err = s.releasedSince(v.Seq)
	return &Confirmation{State: string(v.State), Receipt: r}, err
}

// dateNow is the best that is known of the time, for people.
func (s *Service) dateNow() events.Instant {
	if now := s.attested.date(); now > 0 {
		return now
	}
	return events.InstantOf(s.opts.Clock.Now())
}

// releasedSince are the instances that nobody waits for because somebody said so, while what they were granted could still
// be in use.
func (s *Service) releasedSince(seq events.Seq) ([]Asserted, error) {
	r := s.catalog.Read()
	all, err := r.Releases()
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	fence := projections.Fence(s.catalog.Charter().Lease.Longest(0))
	var released []Asserted
	for _, release := range all {
		lately := s.dateNow() < release.At+events.Instant(fence.Milliseconds())
		if release.Member.RegisteredAt < seq && (release.Seq > seq || lately) {
			released = append(released, releasedOf(&release))
		}
	}
	return released, nil
}

func releasedOf(r *catalog.Release) Asserted {
	return Asserted{Instance: r.Member.Instance, Verifier: r.Member.Verifier, PoP: r.Member.PoP,
		AssertedBy: r.Actor, Reason: r.Reason, At: r.At}
}

// askFleet answers the queries about the fleet, as the active registry alone can.
func (s *Service) askFleet(ctx context.Context, c *Command) (any, error) {
	l := s.leading.Load()
	if l == nil {
		return nil, errStandby
	}
	if c.Verb == FleetStatus {
		return s.fleetView(l)
	}
	if c.Verb == FleetCheckpoint {
		return s.checkpoint(l)
	}
	return s.confirmed(ctx, l, c)
}

// confirmed answers with the receipt of a Seq.
func (s *Service) confirmed(ctx context.Context, l *leading, c *Command) (any, error) {
	l.members.Lock()
	seq, end := events.Seq(c.Request.Seq), l.members.End().Seq // what the catalog has beyond it, nobody has been told of
	l.members.Unlock()
	if seq > end {
		return nil, refuse(NotFound, "there is no Seq %d: the log ends at %d", seq, end)
	}
	r := s.catalog.Read()
	kept, err := r.Receipt(seq)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	reply := &ReceiptReply{Seq: seq, Confirmation: &Confirmation{}}
	if kept != nil {
		return reply, json.Unmarshal(kept, reply.Confirmation)
	}
	reply.Confirmation, err = s.receipt(ctx, l, seq, waitTimeout(&c.Request, 0))
	return reply, err
}
