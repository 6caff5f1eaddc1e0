package verifier

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/projections"
)

// stored is where reports end up: each batch counts once, as at a registry.
type stored struct {
	mu      sync.Mutex
	lost    int // so many reports vanish on their way, and then
	unheard int // so many are stored while their sender does not hear of it
	batches map[uint64]usage.Batch
	totals  map[events.KeyID]usage.Count
	changed chan struct{}
}

func newStored() *stored {
	return &stored{batches: map[uint64]usage.Batch{}, totals: map[events.KeyID]usage.Count{}, changed: make(chan struct{}, 1)}
}

func (s *stored) Report(_ context.Context, b usage.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost > 0 {
		s.lost--
		return errors.New("the hub is away")
	}
	if _, known := s.batches[b.Number]; !known {
		for _, c := range b.Counts {
			sum := s.totals[c.Key]
			s.totals[c.Key] = usage.Count{Key: c.Key, Uses: sum.Uses + c.Uses, Last: max(sum.Last, c.Last)}
		}
	}
	s.batches[b.Number] = b
	select {
	case s.changed <- struct{}{}:
	default:
	}
	if s.unheard > 0 {
		s.unheard--
		return errors.New("no answer came")
	}
	return nil
}

func (s *stored) of(key events.KeyID) usage.Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totals[key]
}

// Whatever becomes of reports and of their answers, each use counts once, and refusals never do.
func TestUsesAreReportedOnce(t *testing.T) {
	hub := newStored()
	hub.lost, hub.unheard = 3, 3
	w := newWorld(t, func(o *Options) { o.Reports, o.ReportEvery = hub, time.Millisecond }).run()
	echo, used, idle := events.DeploymentID(events.NewID()), events.KeyID(events.NewID()), events.KeyID(events.NewID())
	secret, other := apikey.Generate(), apikey.Generate()
	w.tell(echo, &events.DeploymentRegistered{Name: "echo"})
	w.tell(used, &events.Created{Digest: secret.Digest(), Deployments: []events.DeploymentID{echo}, ExpiresAt: events.Never})
	w.tell(idle, &events.Created{Digest: other.Digest(), ExpiresAt: events.Never})
	w.caughtUp()
	const times = 1000
	for range times {
		require.True(t, w.v.Check(t.Context(), Request{Project: "demo", Deployment: "echo", Key: []byte(secret.Reveal())}).Allowed())
		require.False(t, w.v.Check(t.Context(), Request{Project: "demo", Deployment: "echo", Key: []byte(other.Reveal())}).Allowed())
	}
	for hub.of(used).Uses < times {
		<-hub.changed
	}
	require.Equal(t, usage.Count{Key: used, Uses: times, Last: events.InstantOf(noon)}, hub.of(used))
	require.Zero(t, hub.of(idle))
	for _, b := range hub.batches {
		require.Equal(t, w.v.idx.Position().Incarnation, b.Incarnation)
		require.NotZero(t, b.Seq)
	}
}

// A clean stop reports what was counted since the last report.
func TestAStopReportsTheRest(t *testing.T) {
	hub := newStored()
	w := newWorld(t, func(o *Options) { o.Reports, o.ReportEvery = hub, time.Hour }).open()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.v.Run(ctx) }()
	echo, key, secret := events.DeploymentID(events.NewID()), events.KeyID(events.NewID()), apikey.Generate()
	w.tell(echo, &events.DeploymentRegistered{Name: "echo"})
	w.tell(key, &events.Created{Digest: secret.Digest(), Deployments: []events.DeploymentID{echo}, ExpiresAt: events.Never})
	w.caughtUp()
	a := w.v.Check(t.Context(), Request{Project: "demo", Deployment: "echo", Key: []byte(secret.Reveal())})
	require.Equal(t, projections.Allowed, a.Reason)
	require.Zero(t, hub.of(key))
	stop()
	require.NoError(t, <-ended)
	require.EqualValues(t, 1, hub.of(key).Uses)
}

// Many goroutines count many keys, more than there is room for, while another takes what they counted: nothing is lost.
func TestUsesCountSideBySide(t *testing.T) {
	u, sums := newUses(), map[events.KeyID]uint64{}
	take := func() { u.take(func(key events.KeyID, count uint64, _ events.Instant) { sums[key] += count }) }
	const hands, rounds, keys = 4, 20, 3000
	for range rounds {
		var all sync.WaitGroup
		for range hands {
			all.Go(func() {
				for k := range keys {
					u.add(keyOf(k), uint64(k)*windowUses/keys, events.Instant(k))
				}
			})
		}
		all.Go(take) // of the round before
		all.Wait()
	}
	take()
	take()
	for k := range keys {
		require.EqualValues(t, hands*rounds, sums[keyOf(k)])
	}
	require.Len(t, sums, keys)
	require.Zero(t, u.missed.Load())
	sameStart := uint64(0)
	for k := range 2 * maxTries { // they want the same place
		key := events.KeyID{7}
		key[15] = byte(k + 1)
		u.add(key, 7, 1)
	}
	take()
	u.take(func(_ events.KeyID, count uint64, _ events.Instant) { sameStart += count })
	require.EqualValues(t, maxTries, sameStart)
	require.EqualValues(t, maxTries, u.missed.Load(), "what finds no room is counted as missed")
}

// keyOf is a key whose first bits are as good as random.
func keyOf(n int) (key events.KeyID) {
	binary.BigEndian.PutUint64(key[:8], uint64(n+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(key[8:], uint64(n+1))
	return key
}

func TestABacklogIsBounded(t *testing.T) {
	b, at := backlog{run: usage.Run{1}}, events.Position{Incarnation: events.Incarnation{1}, Seq: 9}
	require.Nil(t, b.next(at), "nothing was counted")
	for k := range maxBacklog {
		require.True(t, b.add(keyOf(k), 1, 5))
	}
	require.False(t, b.add(keyOf(maxBacklog), 1, 5), "there is no room for another key")
	require.True(t, b.add(keyOf(0), 2, 4), "there is for one that is known")
	first := b.next(at)
	require.Same(t, first, b.next(events.Position{Seq: 10}), "what was sent is sent again as it is")
	seen := map[events.KeyID]uint64{}
	for batch := first; batch != nil; batch = b.next(at) {
		data, err := batch.Encode()
		require.NoError(t, err)
		_, err = usage.Decode(data)
		require.NoError(t, err)
		for _, c := range batch.Counts {
			require.EqualValues(t, 5, c.Last)
			seen[c.Key] += c.Uses
		}
		b.stored()
	}
	require.Len(t, seen, maxBacklog)
	require.EqualValues(t, 3, seen[keyOf(0)])
	require.EqualValues(t, (maxBacklog+usage.MaxCounts-1)/usage.MaxCounts, b.number)
}
