package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// UsageMessage is what stands at a place of the stream of usage.
type UsageMessage struct {
	Verifier string // under whose name it was put there
	Data     []byte
	Stored   time.Time
	At       catalog.UsagePlace
}

// ErrUsageAhead says that a batch speaks of keys that this registry has yet to read of. It is to be taken again later.
var ErrUsageAhead = errors.New("the verifier that counted is ahead of this registry")

// UsagePlace is behind the last message that was taken.
func (s *Service) UsagePlace() (catalog.UsagePlace, error) { return s.catalog.UsagePlace() }

// TakeUsage adds a verifier's batch up, once, in the active registry as in those that stand by. One that cannot be believed is
// passed over, and told of. Messages are to be taken in their order, by one caller.
func (s *Service) TakeUsage(ctx context.Context, m UsageMessage) error {
	batch, err := s.readUsage(ctx, &m)
	switch {
	case errors.Is(err, events.ErrMalformed):
		s.opts.Observe(UsageRefused{Verifier: m.Verifier, Cause: err})
		return s.catalog.PassUsage(m.At)
	case err != nil:
		return err
	}
	return s.catalog.AddUsage(m.Verifier, &batch, m.At, m.Stored)
}

// readUsage gives a batch all of whose keys, as far as they live, are in the catalog.
func (s *Service) readUsage(ctx context.Context, m *UsageMessage) (usage.Batch, error) {
	if err := events.CheckActor(m.Verifier); err != nil {
		return usage.Batch{}, fmt.Errorf("%w: %w", events.ErrMalformed, err)
	}
	b, err := usage.Decode(m.Data)
	if err != nil {
		return b, err
	}
	have := s.catalog.Position()
	switch {
	case have.Seq == 0: // nothing is known of the log yet
		return b, ErrUsageAhead
	case b.Incarnation != have.Incarnation:
		return b, fmt.Errorf("%w: it is about another life of the log, %s", events.ErrMalformed, b.Incarnation)
	case b.Seq <= have.Seq:
		return b, nil
	}
	last, err := s.log.Last(ctx)
	if err != nil {
		return b, err
	}
	if end := last.Commit.Last(); b.Seq > end {
		return b, fmt.Errorf("%w: its verifier claims to have read up to Seq %d, and the log ends at %d", events.ErrMalformed, b.Seq, end)
	}
	return b, ErrUsageAhead
}
