package natsapi_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

func stand(t *testing.T, nc *nats.Conn, name string, c clock.Clock) *natsapi.Election {
	e, err := natsapi.NewElection(t.Context(), nc, natsapi.ElectionOptions{Name: name, Clock: c})
	require.NoError(t, err)
	return e
}

func win(t *testing.T, e *natsapi.Election) registry.Leadership {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := e.Win(ctx)
	require.NoError(t, err)
	return l
}

func TestResignLetsAnotherWin(t *testing.T) {
	t.Parallel() // it mostly waits
	server := eventlogtest.StartServer(t)
	a, b := stand(t, server.Connect(), "a", nil), stand(t, server.Connect(), "b", nil)
	first := win(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // more than the bucket remembers
	defer cancel()
	_, err := b.Win(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "while the first keeps renewing")
	require.Greater(t, first.SelfLease(), clock.System{}.Elapsed())
	first.Resign()
	assert.Zero(t, first.SelfLease())
	second := win(t, b)
	assert.Greater(t, second.Revision(), first.Revision())
	first.Resign() // says nothing a second time
	second.Resign()
}

// TestFrozen: a registry that slept past its self-lease never renews again, and another is elected.
func TestFrozen(t *testing.T) {
	t.Parallel() // it mostly waits
	server := eventlogtest.StartServer(t)
	frozen := clock.NewManual(time.Now())
	first := win(t, stand(t, server.Connect(), "a", frozen))
	frozen.Advance(time.Hour)
	second := win(t, stand(t, server.Connect(), "b", nil))
	assert.Less(t, first.SelfLease(), frozen.Elapsed())
	first.Resign() // the key is the other's now: it stays
	third := stand(t, server.Connect(), "c", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := third.Win(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	second.Resign()
}

func TestCutOff(t *testing.T) {
	t.Parallel() // it mostly waits
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	first := win(t, stand(t, nc, "a", nil))
	b := stand(t, server.Connect(), "b", nil)
	cut := time.Now()
	nc.Close()
	second := win(t, b)
	assert.Less(t, time.Since(cut), 4*time.Second)
	assert.LessOrEqual(t, first.SelfLease(), clock.System{}.Elapsed(), "before another is elected, the first has stopped believing")
	second.Resign()
	first.Resign()
}

// TestOneAtATime has several stand for election over and over: no two of them ever believe in theirs.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	server := eventlogtest.StartServer(t)
	const candidates, terms = 3, 5
	var inOffice atomic.Int64
	var mu sync.Mutex
	var revisions []uint64
	var wg sync.WaitGroup
	for i := range candidates {
		e := stand(t, server.Connect(), fmt.Sprintf("registry-%d", i), nil)
		wg.Go(func() {
			for range terms {
				l, err := e.Win(patiently(t))
				if !assert.NoError(t, err) {
					return
				}
				assert.EqualValues(t, 1, inOffice.Add(1))
				mu.Lock()
				revisions = append(revisions, l.Revision())
				mu.Unlock()
				inOffice.Add(-1)
				l.Resign()
			}
		})
	}
	wg.Wait()
	assert.Len(t, revisions, candidates*terms)
	assert.IsIncreasing(t, revisions)
}

// TestOusted: somebody else put the key, as an operator might. Whoever led knows at its next renewal.
func TestOusted(t *testing.T) {
	t.Parallel()
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	first := win(t, stand(t, nc, "a", nil))
	kv := bucket(t, nc)
	ousted, err := kv.PutString(t.Context(), "active", "mallory")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return first.SelfLease() == 0 }, 20*time.Second, time.Millisecond)
	first.Resign()
	entry, err := kv.Get(t.Context(), "active")
	require.NoError(t, err)
	assert.Equal(t, ousted, entry.Revision(), "what is another's is not deleted")
}

// TestUnheard: nobody answers renewals. The self-lease runs out as it was, and what comes late extends nothing.
func TestUnheard(t *testing.T) {
	t.Parallel()
	server := eventlogtest.StartServer(t)
	first := win(t, stand(t, server.Connect(), "a", nil))
	server.Stop()
	require.Eventually(t, func() bool { return first.SelfLease() <= clock.System{}.Elapsed() }, 20*time.Second, time.Millisecond)
	over := first.SelfLease()
	server.Start()
	second := win(t, stand(t, server.Connect(), "b", nil))
	assert.LessOrEqual(t, first.SelfLease(), over)
	first.Resign()
	second.Resign()
}

func TestLostBucketIsMadeAgain(t *testing.T) {
	t.Parallel()
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	a := stand(t, nc, "a", nil)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	require.NoError(t, js.DeleteKeyValue(t.Context(), "KEYFLEET_ELECTION"))
	win(t, a).Resign()
}

// TestLostBucketEndsNoLease: a standby wins the bucket that was made anew, at once as far as the bucket goes, and waits
// until the one before has stopped believing.
func TestLostBucketEndsNoLease(t *testing.T) {
	t.Parallel()
	server := eventlogtest.StartServer(t)
	first := win(t, stand(t, server.Connect(), "a", clock.NewManual(time.Now()))) // renews for ever, as far as it can
	b := stand(t, server.Connect(), "b", nil)
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := b.Win(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	nc := server.Connect()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	require.NoError(t, js.DeleteKeyValue(t.Context(), "KEYFLEET_ELECTION"))
	lost := time.Now()
	stand(t, nc, "c", nil) // makes it anew, perhaps before b has seen it missing
	second := win(t, b)
	assert.GreaterOrEqual(t, time.Since(lost), 2*time.Second)
	assert.Greater(t, second.SelfLease(), clock.System{}.Elapsed())
	second.Resign()
	first.Resign()
}

// TestClosedConnection: to stand by on it for ever would look like standing by.
func TestClosedConnection(t *testing.T) {
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	a := stand(t, nc, "a", nil)
	nc.Close()
	_, err := a.Win(patiently(t))
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
}

func bucket(t *testing.T, nc *nats.Conn) jetstream.KeyValue {
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), "KEYFLEET_ELECTION")
	require.NoError(t, err)
	return kv
}
