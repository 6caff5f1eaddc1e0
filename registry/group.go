package registry

import (
	"context"
	"errors"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry/expiry"
)

const (
	maxDeciding = 20 * time.Millisecond // after which those that are left wait for the next: refusals take time, but no room
	maxExpiring = 125                   // ends of lifetimes in one commit: a delete behind it waits little
)

// group is the making of one commit.
type group struct {
	s       *Service
	began   time.Duration
	commit  *events.Commit
	txn     *catalog.Txn
	answers []answer
	expired int
}

type answer struct {
	call   *call
	result result
}

// beginGroup begins the group behind another one, which is on its way, or behind what is durable.
func (s *Service) beginGroup(term uint64, behind *group) *group {
	g := &group{s: s, began: s.opts.Clock.Elapsed()}
	at := s.catalog.Position()
	c := events.Commit{Incarnation: at.Incarnation, Term: term}
	if behind != nil {
		c.First, c.Time = behind.commit.Last()+1, max(behind.commit.Time, s.attested.date())
		c.Grow(len(behind.commit.Events())) // it will be of about the same size
		g.txn = behind.txn.Next(c.Time)
	} else {
		c.First, c.Time = at.Seq+1, max(at.Time, s.attested.date())
		g.txn = s.catalog.Begin(c.First, at.StreamSeq+1, c.Time)
	}
	c.Schema = g.txn.Charter().Schema
	g.commit = &c
	return g
}

func (g *group) say(es ...events.Event) error {
	es, err := g.seal(es)
	if err != nil {
		return err
	}
	if err := g.commit.Add(es...); err != nil {
		return err
	}
	return g.txn.Fold(es...)
}

// take decides a command on the state with the ones before it. It takes none for which the commit has no room, that for
// ends of lifetimes left free, or the group no time if it is waited for.
func (g *group) take(c *call, l *leading, waitedFor bool) (taken bool, err error) {
	now := g.s.attested.date()
	elapsed := g.s.opts.Clock.Elapsed()
	if elapsed >= l.SelfLease() {
		return false, errSelfLease
	}
	late := waitedFor && elapsed-g.began > maxDeciding
	if n := len(g.answers); n == maxGroup || n > 0 && (late || len(g.commit.Events()) > events.MaxCommitEvents-maxExpiring) {
		return false, nil
	}
	reply, err := g.decide(c, now)
	var refusal *Refusal
	switch {
	case errors.Is(err, events.ErrCommitFull) && len(g.commit.Events()) > 0:
		return false, nil
	case errors.Is(err, events.ErrCommitFull):
		err = refuse(Invalid, "the command is too large for one commit; split it")
	case err != nil && !errors.As(err, &refusal):
		return false, err
	}
	g.answers = append(g.answers, answer{c, result{reply: reply, seq: g.commit.Last(), err: err}})
	return true, nil
}

// calls are those that the group has taken in.
func (g *group) calls() []*call {
	all := make([]*call, len(g.answers))
	for i, a := range g.answers {
		all[i] = a.call
	}
	return all
}

func (g *group) decide(c *call, now events.Instant) (any, error) {
	out, err := Decide(g.txn, &c.cmd, c.chance, now)
	if err != nil {
		return nil, err
	}
	if err := g.s.roomFor(out.Events); err != nil {
		return nil, err
	}
	if err := g.say(out.Events...); err != nil {
		return nil, err
	}
	g.commit.Prompt = g.commit.Prompt || (c.cmd.Request.Wait == WaitConfirmed && len(out.Events) > 0)
	return render(g.txn, c, out, g.commit.Last(), now)
}

// sayDue fills the commit up with ends of lifetimes, where the clock allows.
func (g *group) sayDue() error {
	now, attested := g.s.attested.now()
	if !attested {
		return nil
	}
	now = min(now, g.commit.Time) // nothing is recorded in a commit that is dated before it
	due, err := expiry.Due(g.txn, now, maxExpiring)
	if err != nil {
		return err
	}
	for i := range due {
		err := g.say(due[i])
		if errors.Is(err, events.ErrCommitFull) {
			return nil
		}
		if err != nil {
			return err
		}
		g.expired++
	}
	return nil
}

// makeDurable appends the commit, then folds it into the catalog. Crash windows: before the append is durable,
// nothing happened and nobody was answered. Until the catalog has stored it, the log has it and
// the catalog folds it in at the next start; callers who were not answered find their command id
// remembered. The group before must be durable: only now it is known what stands before this one.
func (g *group) makeDurable(ctx context.Context) error {
	at := g.s.catalog.Position()
	g.commit.Parent = at.Chain
	entry, err := g.s.log.Append(ctx, at, g.commit)
	if err != nil {
		return err
	}
	if err := g.txn.Commit(entry); err != nil {
		return err
	}
	g.s.noteEnd()
	g.s.noteDurable()
	g.s.opts.Observe(Committed{
		At: g.s.catalog.Position(), Commands: len(g.answers), Events: len(g.commit.Events()), Expired: g.expired,
	})
	return nil
}

func (g *group) answer() {
	for _, a := range g.answers {
		a.call.done <- a.result
	}
}
