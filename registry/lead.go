package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	rollbackLook     = 250 * time.Millisecond
	rollbackPatience = 15 * time.Second      // a NATS server that lost its quorum goes on answering as a leader for 10 s
	selfLeaseLook    = 20 * time.Millisecond // how often the self-lease is looked at
	maxGroup         = 1000                  // commands decided for one commit
	maxDeciding      = 20 * time.Millisecond // after which those that are left wait for the next: refusals take time, but no room
	maxExpiring      = 125                   // ends of lifetimes in one commit: a delete behind it waits little
)

// lead opens a term and carries commands out in it until it ends. It always gives a reason.
func (s *Service) lead(parent context.Context, won Leadership) error {
	ctx, end := context.WithCancelCause(parent)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer end(nil)
	helpers.Go(func() { s.watchSelfLease(ctx, won, end) })

	term, err := s.openTerm(ctx, won)
	if err != nil {
		return err
	}
	l := &leading{Leadership: won, term: term, over: ctx}
	s.leading.Store(l)
	s.opts.Observe(TermOpened{Term: term, At: s.catalog.Position()})
	helpers.Go(func() { s.keepAttesting(ctx) })

	err = s.carryOut(ctx, l)
	s.leading.Store(nil)
	end(err)
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
	if err := s.compareClocks(ctx); err != nil {
		return 0, err
	}
	if err := s.catchUp(ctx); err != nil {
		return 0, err
	}
	before := s.catalog.Position().Term
	for {
		if schema := s.catalog.Charter().Schema; schema > events.Schema {
			return 0, fmt.Errorf("%w: schema %d, newest known is %d", events.ErrUnknownSchema, schema, events.Schema)
		}
		if s.opts.Clock.Elapsed() >= won.SelfLease() {
			return 0, errSelfLease
		}
		term, err := s.appendTerm(ctx, won.Revision())
		if !errors.Is(err, events.ErrConflict) {
			return term, err
		}
		if err := s.catchUp(ctx); err != nil {
			return 0, err
		}
		if newest := s.catalog.Position().Term; newest > before {
			return 0, fmt.Errorf("%w: term %d, before this one could be opened", errDeposed, newest)
		}
	}
}

// appendTerm opens a term. An election bucket that was lost begins its revisions anew: terms must not.
func (s *Service) appendTerm(ctx context.Context, revision uint64) (uint64, error) {
	term := max(revision, s.catalog.Position().Term+1)
	g := s.beginGroup(term)
	defer g.txn.Discard()
	err := g.say(events.Event{
		Fact:  &events.TermOpened{Term: term, Registry: s.opts.Name},
		Admin: events.Admin{Actor: "_registry"}.Plain(),
	})
	if err == nil {
		err = g.makeDurable(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("open term %d: %w", term, err)
	}
	return term, nil
}

// catchUp folds in what the log holds at this moment.
func (s *Service) catchUp(ctx context.Context) error {
	at := s.catalog.Position()
	end, err := s.end(ctx, at)
	if err != nil || end == at.Seq {
		return err
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

// end is the Seq of the log's last event, which cannot lie before at. A leader of the stream that is one no longer, and
// has not noticed, may answer from before for some seconds; only what stays so is a rollback.
func (s *Service) end(ctx context.Context, at events.Position) (events.Seq, error) {
	for asked := time.Duration(0); ; asked += rollbackLook {
		last, err := s.log.Last(ctx)
		if err != nil {
			return 0, fmt.Errorf("catch up: %w", err)
		}
		end := last.Commit.Last()
		switch {
		case end > at.Seq, end == at.Seq && last.Chain == at.Chain:
			return end, nil
		case end == at.Seq, asked >= rollbackPatience:
			return 0, fmt.Errorf("%w: the log ends at Seq %d with chain hash %s, the catalog had come to Seq %d with %s",
				events.ErrFork, end, last.Chain, at.Seq, at.Chain)
		}
		if err := pauseFor(ctx, rollbackLook); err != nil {
			return 0, err
		}
	}
}

// pauseFor gives the cause if ctx ends meanwhile.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
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
	if err := g.sayDue(); err != nil {
		return calls, err
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
		err := s.compareClocks(ctx)
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

func (s *Service) compareClocks(ctx context.Context) error {
	attempt, cancel := context.WithTimeout(ctx, clockTolerance)
	defer cancel()
	if err := s.attested.compare(attempt, s.log.Now); err != nil {
		return fmt.Errorf("ask the log servers for their time: %w", err)
	}
	return nil
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
	now := max(at.Time, s.attested.date())
	c := &events.Commit{
		Schema: s.catalog.Charter().Schema, Incarnation: at.Incarnation, Term: term,
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
// for which the commit has no room, that for ends of lifetimes left free, or the group no time.
func (g *group) decideAll(calls []*call, l *leading) (rest []*call, err error) {
	began := g.s.opts.Clock.Elapsed()
	for i, c := range calls {
		now := g.s.attested.date()
		elapsed := g.s.opts.Clock.Elapsed()
		if elapsed >= l.SelfLease() {
			return nil, errSelfLease
		}
		if i > 0 && (elapsed-began > maxDeciding || len(g.commit.Events()) > events.MaxCommitEvents-maxExpiring) {
			return calls[i:], nil
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
