package registry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/clock"
)

// How far the registry's clock may be from the log servers' while it is trusted, and for how long one
// comparison is good (rule CLOCK of docs/protocol.md).
const (
	clockTolerance = 2 * time.Second
	attestedFor    = 10 * time.Second
	attestEvery    = 3 * time.Second
)

// attestation is the last comparison of the registry's clock with the log servers'.
type attestation struct {
	clock clock.Clock

	mu      sync.Mutex
	wall    time.Time     // own clock when it was compared
	elapsed time.Duration // and how long the machine was up then
	offset  time.Duration // the servers' clock minus the own one
	taken   bool
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

// now is the instant up to which both clocks agree that time has come, if the own one can be trusted.
// A step of the wall clock since the comparison ends that trust at once.
func (a *attestation) now() (events.Instant, bool) {
	wall, elapsed := a.clock.Now(), a.clock.Elapsed()
	a.mu.Lock()
	defer a.mu.Unlock()
	since := elapsed - a.elapsed
	stepped := (wall.Sub(a.wall) - since).Abs() > clockTolerance/4
	if !a.taken || stepped || since > attestedFor || a.offset.Abs() > clockTolerance {
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
