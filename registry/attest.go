package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

// How far the registry's clock may be from the log servers', and from the median of the verifiers', while it is trusted, and for
// how long one comparison is good (rule CLOCK of docs/protocol.md).
const (
	clockTolerance = 2 * time.Second
	attestedFor    = 10 * time.Second
	attestEvery    = 3 * time.Second
	attestSoon     = 500 * time.Millisecond // while it is not
)

// attestation is the last comparison of the registry's clock with the others.
type attestation struct {
	clock clock.Clock

	mu      sync.Mutex
	wall    time.Time     // own clock when it was compared
	elapsed time.Duration // and how long the machine was up then
	offset  time.Duration // the servers' clock minus the own one
	taken   bool
	edges   fleet.Clocks // what the verifiers' say
}

// compare asks the servers for their time once. An answer that took too long says nothing, and is an error.
func (a *attestation) compare(ctx context.Context, servers func(context.Context) (time.Time, error)) error {
	wall, sent := a.clock.Now(), a.clock.Elapsed()
	theirs, err := servers(ctx)
	if err != nil {
		return err
	}
	trip := a.clock.Elapsed() - sent
	if trip > clockTolerance {
		return fmt.Errorf("the answer took %s, too long to compare clocks by", trip)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wall, a.elapsed, a.taken = wall, sent, true
	a.offset = theirs.Sub(wall) - trip/2
	return nil
}

// hear takes in what the verifiers' clocks say.
func (a *attestation) hear(c fleet.Clocks) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.edges = c
}

var errUnheard = errors.New("no verifier has said lately what time it is there")

// contradiction is why the clock is doubted although the servers could be asked; nil if none of the clocks that were compared
// contradicts it.
func (a *attestation) contradiction() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch c := a.edges; {
	case a.offset.Abs() > clockTolerance:
		return fmt.Errorf("the log servers' clock is %s before this registry's", a.offset)
	case c.Members > 0 && c.Heard == 0:
		return errUnheard
	case c.Ahead.Abs() > clockTolerance:
		return fmt.Errorf("this registry's clock is %s before the median of %d verifiers'", c.Ahead, c.Heard)
	default:
		return nil
	}
}

// agree reports whether the verifiers' clocks bear the own one out. Members of whom none was heard do not: a registry and a
// server with one wrong clock between them would, right after they were started, record what has not come.
func agree(c fleet.Clocks) bool {
	return c.Members == 0 || c.Heard > 0 && c.Ahead.Abs() <= clockTolerance
}

// now is the instant up to which both clocks agree that time has come, if the own one can be trusted.
// A step of the wall clock since the comparison ends that trust at once.
func (a *attestation) now() (events.Instant, bool) {
	wall, elapsed := a.clock.Now(), a.clock.Elapsed()
	a.mu.Lock()
	defer a.mu.Unlock()
	since := elapsed - a.elapsed
	stepped := (wall.Sub(a.wall) - since).Abs() > clockTolerance/4
	if !a.taken || stepped || since > attestedFor || a.offset.Abs() > clockTolerance || !agree(a.edges) {
		return 0, false
	}
	return events.InstantOf(wall.Add(min(0, a.offset))), true
}

// date is the time to write on things. While the own clock is doubted it is the earlier of that and the servers' as it was
// last seen, going on since: a clock that is a year ahead for ten seconds must not date the log a year ahead for good.
// It is 0, long past, if the servers were never asked.
func (a *attestation) date() events.Instant {
	wall, elapsed := a.clock.Now(), a.clock.Elapsed()
	_, trusted := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case trusted:
		return events.InstantOf(wall)
	case !a.taken:
		return 0
	default:
		servers := a.wall.Add(a.offset + elapsed - a.elapsed)
		return min(events.InstantOf(wall), events.InstantOf(servers))
	}
}

// keepAttesting compares clocks from time to time and says when trust begins and ends. That no verifier was heard yet is nothing to
// tell of in a term that has just begun.
func (s *Service) keepAttesting(ctx context.Context, l *leading) {
	begun := s.opts.Clock.Elapsed()
	for trusted, said := false, false; ; {
		err := s.compareClocks(ctx)
		if ctx.Err() != nil {
			return
		}
		s.hearClocks(l)
		why := cmp.Or(err, s.attested.contradiction())
		_, now := s.attested.now()
		early := errors.Is(why, errUnheard) && s.opts.Clock.Elapsed()-begun < attestedFor
		if (now != trusted || !said) && !early {
			trusted, said = now, true
			if now {
				s.opts.Observe(ClockTrusted{})
			} else {
				s.opts.Observe(ClockDoubted{Cause: why})
			}
		}
		pause := attestEvery
		if !now {
			pause = attestSoon
		}
		select {
		case <-time.After(pause):
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

// hearClocks holds the own clock against the verifiers'.
func (s *Service) hearClocks(l *leading) {
	l.members.Lock()
	defer l.members.Unlock()
	s.attested.hear(l.members.Clocks(events.InstantOf(s.opts.Clock.Now()), s.opts.Clock.Elapsed()))
}

// attest gives the time that a grant may tell, if it is attested. Where only the verifiers' word was missing, the renewal that
// is being answered may have brought it.
func (s *Service) attest(l *leading) (events.Instant, bool) {
	if now, attested := s.attested.now(); attested {
		return now, true
	}
	s.hearClocks(l)
	return s.attested.now()
}
