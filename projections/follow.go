package projections

import (
	"context"
	"errors"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// Source reads the log.
type Source interface {
	// Follow delivers the commits after from, in order, and goes on with new ones as they come, in batches
	// of what is at hand (never empty). Every entry has passed events.Position.Next. It returns only with
	// an error: ctx's, deliver's, one that wraps an error of package events about the log itself, or
	// one of the connection. It may be called again, with the position then reached.
	Follow(ctx context.Context, from events.Position, deliver func([]events.Entry) error) error
}

// Index is a read model that can be folded further.
type Index interface {
	// Position is behind the last entry applied.
	Position() events.Position
	// Apply folds entries in, which follow Position, and moves Position with them: all of it or
	// nothing. Readers see it once Apply returns.
	Apply([]events.Entry) error
}

// FollowObserver hears how a follower fares. Calls come from the goroutine that runs Follow.
type FollowObserver struct {
	Applied func(events.Position)
	Stalled func(error) // cannot go on for now; Follow keeps trying
}

// Pauses between attempts to read on.
const (
	firstPause = 50 * time.Millisecond
	longPause  = 5 * time.Second
)

// Follow folds the log into idx until ctx ends or the log turns out to be another than before
// (events.ErrFork, events.ErrIncarnation), or one that idx has no key to (events.ErrSealed): then no more of it may be read. Whatever else goes wrong, a gap,
// an unknown event, a full disk, a lost connection, it reports as a stall and tries again from idx's position.
func Follow(ctx context.Context, src Source, idx Index, on FollowObserver) error {
	pause := firstPause
	deliver := func(entries []events.Entry) error {
		if err := idx.Apply(entries); err != nil {
			return err
		}
		pause = firstPause
		on.Applied(idx.Position())
		return nil
	}
	for {
		err := src.Follow(ctx, idx.Position(), deliver)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, events.ErrFork), errors.Is(err, events.ErrIncarnation), errors.Is(err, events.ErrSealed):
			return err
		}
		on.Stalled(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause = min(2*pause, longPause)
		}
	}
}
