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
)

// Why a term ends.
var (
	errSelfLease = errors.New("the self-lease ran out: the election could not be renewed in time")
	errDeposed   = errors.New("another registry opened a newer term")
)

const (
	selfLeaseLook = 20 * time.Millisecond // how often the self-lease is looked at
	maxGroup      = 1000                  // commands decided for one commit
)

// lead opens a term and carries commands out in it until it ends. It always gives a reason, and reports whether it came to lead.
func (s *Service) lead(parent context.Context, won Leadership) (led bool, err error) {
	ctx, end := context.WithCancelCause(parent)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer end(nil)
	helpers.Go(func() { s.watchSelfLease(ctx, won, end) })

	term, err := s.openTerm(ctx, won)
	if err != nil {
		return false, err
	}
	l := &leading{Leadership: won, term: term, over: ctx, end: end, members: s.openFleet(term)}
	s.leading.Store(l)
	s.opts.Observe(TermOpened{Term: term, At: s.catalog.Position()})
	helpers.Go(func() { s.keepAttesting(ctx) })
	helpers.Go(func() { s.watchMembers(ctx, l) })

	err = s.carryOut(ctx, l)
	s.leading.Store(nil)
	end(err)
	s.turnAway()
	return true, err
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
	s.noteDurable()
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

var _ projections.Index = (*catalog.Catalog)(nil)
