package registry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// Why a term ends.
var (
	errSelfLease = errors.New("the self-lease ran out: the election could not be renewed in time")
	errDeposed   = errors.New("another registry opened a newer term")
)

const selfLeaseLook = 20 * time.Millisecond // how often the self-lease is looked at

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
	s.hearClocks(l)
	s.leading.Store(l)
	s.opts.Observe(TermOpened{Term: term, At: s.catalog.Position()})
	helpers.Go(func() { s.keepAttesting(ctx, l) })
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

// untilDue is how long to sleep with nothing else to do. A clock that steps, or that is not
// attested yet, is looked at again soon.
func (s *Service) untilDue() (time.Duration, error) {
	const look = time.Second
	now, attested := s.attested.now()
	if !attested {
		return look, nil
	}
	next, err := s.catalog.NextDue(now)
	if err != nil || next <= now {
		return 0, err
	}
	return min(look, time.Duration(min(int64(next-now), look.Milliseconds()))*time.Millisecond), nil
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

var _ projections.Index = (*catalog.Catalog)(nil)
