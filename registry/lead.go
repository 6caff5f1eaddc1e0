package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry/expiry"
)

// Why a term ends.
var (
	errSelfLease = errors.New("the self-lease ran out: the election could not be renewed in time")
	errDeposed   = errors.New("another registry opened a newer term")
	errCaughtUp  = errors.New("caught up")
)

const (
	selfLeaseLook = 20 * time.Millisecond // how often the self-lease is looked at
	maxGroup      = 1000                  // commands decided for one commit
	maxExpiring   = 125                   // ends of lifetimes in one commit: a delete behind it waits little
)

// lead opens a term and carries commands out in it until it ends. It always gives a reason.
func (s *Service) lead(parent context.Context, won Leadership) error {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	go s.watchSelfLease(ctx, won, end)

	term, err := s.openTerm(ctx, won)
	if err != nil {
		return err
	}
	l := &leading{Leadership: won, term: term, over: ctx}
	s.leading.Store(l)
	s.opts.Observe(TermOpened{Term: term, At: s.catalog.Position()})
	attested := make(chan struct{})
	go func() {
		defer close(attested)
		s.keepAttesting(ctx)
	}()

	err = s.carryOut(ctx, l)
	s.leading.Store(nil)
	end(err)
	<-attested
	s.turnAway()
	return err
}

func (s *Service) watchSelfLease(ctx context.Context, won Leadership, end context.CancelCauseFunc) {
	look := time.NewTicker(selfLeaseLook)
	defer look.Stop()
	for s.opts.Clock.Elapsed() < won.SelfLease() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
	end(errSelfLease)
}

// openTerm catches up and makes term_opened durable (rule TERM). Until then nothing may be answered.
func (s *Service) openTerm(ctx context.Context, won Leadership) (uint64, error) {
	for {
		if err := s.catchUp(ctx); err != nil {
			return 0, err
		}
		at := s.catalog.Position()
		// An election bucket that was lost begins its revisions anew: terms must not.
		term := max(won.Revision(), at.Term+1)
		opened := events.Event{
			Fact:  &events.TermOpened{Term: term, Registry: s.opts.Name},
			Admin: events.Admin{Actor: "_registry"}.Plain(),
		}
		g := s.beginGroup(term)
		err := g.say(opened)
		if err == nil {
			err = g.makeDurable(ctx)
		}
		g.txn.Discard()
		if err == nil {
			return term, nil
		}
		if !errors.Is(err, events.ErrConflict) {
			return 0, fmt.Errorf("open term %d: %w", term, err)
		}
	}
}

// catchUp folds in what the log holds at this moment.
func (s *Service) catchUp(ctx context.Context) error {
	last, err := s.log.Last(ctx)
	if err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	end := last.Commit.Last()
	at := s.catalog.Position()
	if at.Seq > end || (at.Seq == end && at.Chain != last.Chain) {
		return fmt.Errorf("%w: the log ends at Seq %d, the catalog had come to %d", events.ErrFork, end, at.Seq)
	}
	if at.Seq == end {
		return nil
	}
	err = s.log.Follow(ctx, at, func(entries []events.Entry) error {
		if err := s.catalog.Apply(entries); err != nil {
			return err
		}
		if s.catalog.Position().Seq >= end {
			return errCaughtUp
		}
		return nil
	})
	if errors.Is(err, errCaughtUp) {
		return nil
	}
	return fmt.Errorf("catch up: %w", err)
}

// carryOut decides commands in groups, one commit each, until the term ends.
func (s *Service) carryOut(ctx context.Context, l *leading) error {
	var waiting []*call
	for {
		var err error
		if waiting, err = s.gather(ctx, waiting); err != nil {
			refuseAll(waiting, errUnknown)
			return err
		}
		if waiting, err = s.commitGroup(ctx, l, waiting); err != nil {
			refuseAll(waiting, errUnknown)
			return err
		}
	}
}

// gather takes in the commands that are at hand. With none it waits for one, or for the next
// end of a lifetime: a lone command waits for nobody.
func (s *Service) gather(ctx context.Context, waiting []*call) ([]*call, error) {
	if len(waiting) == 0 {
		wake, err := s.untilDue()
		if err != nil {
			return nil, err
		}
		timer := time.NewTimer(wake)
		defer timer.Stop()
		select {
		case c := <-s.calls:
			waiting = append(waiting, c)
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	for len(waiting) < maxGroup {
		select {
		case c := <-s.calls:
			waiting = append(waiting, c)
		default:
			return waiting, nil
		}
	}
	return waiting, nil
}

// untilDue is how long to sleep with nothing else to do. A clock that steps, or that is not
// attested yet, is looked at again soon.
func (s *Service) untilDue() (time.Duration, error) {
	const look = time.Second
	now, attested := s.attested.now()
	if !attested {
		return look, nil
	}
	r := s.catalog.Read()
	next, err := r.NextDue()
	if err := errors.Join(err, r.Close()); err != nil {
		return 0, err
	}
	if next <= now {
		return 0, nil
	}
	return min(look, time.Duration(min(int64(next-now), look.Milliseconds()))*time.Millisecond), err
}

// commitGroup decides commands and makes their events durable, then answers. What it could not take in
// it gives back. An error ends the term; the commands given back with it are unanswered.
func (s *Service) commitGroup(ctx context.Context, l *leading, calls []*call) ([]*call, error) {
	g := s.beginGroup(l.term)
	defer g.txn.Discard()
	rest, err := g.decideAll(calls, l)
	if err != nil {
		return calls, err
	}
	if len(rest) == 0 {
		if err := g.sayDue(); err != nil {
			return calls, err
		}
	}
	if len(g.commit.Events()) > 0 {
		err = g.makeDurable(ctx)
	}
	switch {
	case errors.Is(err, events.ErrConflict):
		// Nothing of it was written, and nobody was answered: decide again on what stands there now.
		return calls, s.reread(ctx, l)
	case err != nil:
		return calls, err
	}
	g.answer()
	return rest, nil
}

func (s *Service) reread(ctx context.Context, l *leading) error {
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	if newest := s.catalog.Position().Term; newest > l.term {
		return fmt.Errorf("%w: term %d, this was term %d", errDeposed, newest, l.term)
	}
	return nil
}

// turnAway answers the commands that nobody will decide any more.
func (s *Service) turnAway() {
	for {
		select {
		case c := <-s.calls:
			c.done <- result{err: errStandby}
		default:
			return
		}
	}
}

func refuseAll(calls []*call, err error) {
	for _, c := range calls {
		c.done <- result{err: err}
	}
}

// keepAttesting compares clocks from time to time and says when trust begins and ends.
func (s *Service) keepAttesting(ctx context.Context) {
	for trusted, said := false, false; ; said = true {
		attempt, cancel := context.WithTimeout(ctx, clockTolerance)
		err := s.attested.compare(attempt, s.log.Now)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if _, now := s.attested.now(); now != trusted || !said {
			trusted = now
			if now {
				s.opts.Observe(ClockTrusted{})
			} else {
				s.opts.Observe(ClockDoubted{Cause: err})
			}
		}
		select {
		case <-time.After(attestEvery):
		case <-ctx.Done():
			return
		}
	}
}

// group is the making of one commit.
type group struct {
	s       *Service
	at      events.Position
	commit  *events.Commit
	txn     *catalog.Txn
	answers []answer
	expired int
}

type answer struct {
	call   *call
	result result
}

func (s *Service) beginGroup(term uint64) *group {
	at := s.catalog.Position()
	now := max(at.Time, events.InstantOf(s.opts.Clock.Now()))
	c := &events.Commit{
		Schema: events.Schema, Incarnation: at.Incarnation, Term: term,
		First: at.Seq + 1, Parent: at.Chain, Time: now,
	}
	return &group{s: s, at: at, commit: c, txn: s.catalog.Begin(c.First, at.StreamSeq+1, now)}
}

func (g *group) say(es ...events.Event) error {
	if err := g.commit.Add(es...); err != nil {
		return err
	}
	return g.txn.Fold(es...)
}

// decideAll decides calls in order, each on the state with the ones before it, and gives back those
// for which the commit has no room.
func (g *group) decideAll(calls []*call, l *leading) (rest []*call, err error) {
	for i, c := range calls {
		now := events.InstantOf(g.s.opts.Clock.Now())
		if g.s.opts.Clock.Elapsed() >= l.SelfLease() {
			return nil, errSelfLease
		}
		reply, err := g.decide(c, now)
		var refusal *Refusal
		switch {
		case errors.Is(err, events.ErrCommitFull) && len(g.commit.Events()) > 0:
			return calls[i:], nil
		case errors.Is(err, events.ErrCommitFull):
			err = refuse(Invalid, "the command is too large for one commit; split it")
		case err != nil && !errors.As(err, &refusal):
			return nil, err
		}
		g.answers = append(g.answers, answer{c, result{reply: reply, err: err}})
	}
	return nil, nil
}

func (g *group) decide(c *call, now events.Instant) (any, error) {
	before, err := subjectBefore(g.txn, c)
	if err != nil {
		return nil, err
	}
	out, err := Decide(g.txn, &c.cmd, c.chance, now)
	if err != nil {
		return nil, err
	}
	if err := g.say(out.Events...); err != nil {
		return nil, err
	}
	g.commit.Prompt = g.commit.Prompt || (c.cmd.Request.Wait == WaitConfirmed && len(out.Events) > 0)
	return render(g.txn, c, out, before, g.commit.Last(), now)
}

// sayDue fills the commit up with ends of lifetimes, where the clock allows.
func (g *group) sayDue() error {
	now, attested := g.s.attested.now()
	if !attested {
		return nil
	}
	due, err := expiry.Due(g.txn, now, min(maxExpiring, events.MaxCommitEvents-len(g.commit.Events())))
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
// nothing happened and nobody was answered. Between the append and the catalog's batch, the log has it and
// the catalog folds it in at the next start. Behind that, callers who were not answered find their
// command id remembered.
func (g *group) makeDurable(ctx context.Context) error {
	entry, err := g.s.log.Append(ctx, g.at, g.commit)
	if err != nil {
		return err
	}
	if err := g.txn.Commit(entry); err != nil {
		return err
	}
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

var _ projections.Index = (*catalog.Catalog)(nil)
