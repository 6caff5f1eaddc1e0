package projections_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// source fails in the ways it is told, one after the other.
type source struct {
	errs  []error
	froms []events.Position
}

func (s *source) Follow(_ context.Context, from events.Position, deliver func([]events.Entry) error) error {
	s.froms = append(s.froms, from)
	if err := deliver(make([]events.Entry, 1)); err != nil {
		return err
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return err
}

type counter struct{ at events.Position }

func (c *counter) Position() events.Position { return c.at }
func (c *counter) Apply(es []events.Entry) error {
	c.at.Seq += events.Seq(len(es))
	return nil
}

// TestFollow goes on from where it was after every stall, and ends where another log begins.
func TestFollow(t *testing.T) {
	for _, final := range []error{events.ErrFork, events.ErrIncarnation} {
		synctest.Test(t, func(t *testing.T) {
			src := &source{errs: []error{events.ErrGap, events.ErrUnknownType, errors.New("connection lost"), final}}
			var stalls []error
			idx := &counter{}
			err := projections.Follow(t.Context(), src, idx, projections.FollowObserver{
				Applied: func(events.Position) {},
				Stalled: func(err error) { stalls = append(stalls, err) },
			})
			require.ErrorIs(t, err, final)
			assert.Len(t, stalls, 3)
			assert.Equal(t, []events.Position{{Seq: 0}, {Seq: 1}, {Seq: 2}, {Seq: 3}}, src.froms)
		})
	}
}
