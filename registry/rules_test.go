package registry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
)

// hooked lets a test stand between a registry and its log.
type hooked struct {
	*eventlogtest.Memory
	mu     sync.Mutex
	onRead func()
	onLast func() (events.Entry, bool)
}

func (h *hooked) Read(ctx context.Context, streamSeq uint64) (events.Entry, error) {
	h.mu.Lock()
	hook := h.onRead
	h.onRead = nil
	h.mu.Unlock()
	if hook != nil {
		hook()
	}
	return h.Memory.Read(ctx, streamSeq)
}

func (h *hooked) Last(ctx context.Context) (events.Entry, error) {
	h.mu.Lock()
	hook := h.onLast
	h.onLast = nil
	h.mu.Unlock()
	if hook != nil {
		if e, ok := hook(); ok {
			return e, nil
		}
	}
	return h.Memory.Last(ctx)
}

// TestStaleEnd: while the stream changes its leader, its end may be told as it was. That is no fork.
func TestStaleEnd(t *testing.T) {
	w := newWorld()
	h := startHub(t, w, t.TempDir())
	h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	old, err := w.log.Read(t.Context(), 2)
	require.NoError(t, err)
	h.hooks.mu.Lock()
	h.hooks.onLast = func() (events.Entry, bool) { return old, true }
	h.hooks.mu.Unlock()
	h.office.setLease(h.clock.Elapsed())
	hear[registry.SteppedDown](t, h)
	h.office.setLease(longLease)
	hear[registry.TermOpened](t, h)
	h.must(t, registry.KeyGet, registry.Request{Key: "demo-key"})
}

// TestQueryStaysInItsTerm: what was read before another registry led may be older than what that one answered.
func TestQueryStaysInItsTerm(t *testing.T) {
	w := newWorld()
	a := startHub(t, w, t.TempDir())
	a.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	entered, release := make(chan struct{}), make(chan struct{})
	a.hooks.mu.Lock()
	a.hooks.onRead = func() { close(entered); <-release }
	a.hooks.mu.Unlock()
	answer := make(chan error, 1)
	go func() { _, err := a.do(t, registry.KeyHistory, registry.Request{Key: "demo-key"}); answer <- err }()
	<-entered
	a.office.setLease(a.clock.Elapsed())
	hear[registry.SteppedDown](t, a)
	b := startHub(t, w, t.TempDir())
	b.must(t, registry.KeyDisable, registry.Request{Key: "demo-key"})
	b.stop()
	a.office.setLease(longLease)
	hear[registry.TermOpened](t, a)
	close(release)
	requireRefusal(t, registry.Unavailable, <-answer)
}

// TestSchemaRaised: a registry below the log's schema does not lead, and says why.
func TestSchemaRaised(t *testing.T) {
	w := newWorld()
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	raised := eventlogtest.NewCommitOf(t, eventlogtest.Behind(last),
		events.Event{Fact: &events.SchemaRaised{Schema: 2}, Admin: events.Admin{}.Plain()})
	_, err = w.log.Append(t.Context(), eventlogtest.Behind(last), raised)
	require.NoError(t, err)
	h := openHub(t, w, t.TempDir())
	require.ErrorIs(t, h.Run(t.Context()), events.ErrUnknownSchema)
}

// TestBrokenRegistryStandsBack: one that cannot read the log lets others try before it stands for election again.
func TestBrokenRegistryStandsBack(t *testing.T) {
	w := newWorld()
	w.log.Publish([]byte("garbage"))
	h := openHub(t, w, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	began := time.Now()
	hear[registry.SteppedDown](t, h)
	hear[registry.SteppedDown](t, h)
	assert.GreaterOrEqual(t, time.Since(began), time.Second)
	cancel()
	<-done
}

// TestExpiriesAreNotStarved: full groups leave room for ends of lifetimes, which no commit records before its own date.
func TestExpiriesAreNotStarved(t *testing.T) {
	w := newWorld()
	h := startHub(t, w, t.TempDir())
	hear[registry.ClockTrusted](t, h)
	at := "2027-01-01T00:00:01Z"
	h.must(t, registry.KeyCreate, registry.Request{Name: "due-key", ExpiresAt: &at})
	entered, release := make(chan struct{}), make(chan struct{})
	h.log.Inject(eventlogtest.Fault{Before: func() { close(entered); <-release }})
	var callers sync.WaitGroup
	create := func(i int) {
		callers.Go(func() {
			_, err := h.do(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%d", i)})
			assert.NoError(t, err)
		})
	}
	create(0)
	<-entered
	const waiting = 2500
	for i := 1; i <= waiting; i++ {
		create(i)
	}
	require.Eventually(t, func() bool { return h.Asking() == waiting+1 }, 20*time.Second, time.Millisecond)
	h.clock.Advance(time.Second)
	close(release)
	callers.Wait()
	first := uint64(0)
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	for seq := uint64(1); seq <= last.StreamSeq; seq++ {
		e, err := w.log.Read(t.Context(), seq)
		require.NoError(t, err)
		for _, one := range e.Commit.Events() {
			if f, ok := one.Fact.(*events.Expired); ok {
				first = seq
				assert.GreaterOrEqual(t, e.Commit.Time, f.ExpiresAt)
			}
		}
	}
	assert.NotZero(t, first)
	assert.Less(t, first, last.StreamSeq, "before the last of the commands that waited")
}

// TestExpiriesAreDatedBehindTheirInstant, however long a group takes to decide.
func TestExpiriesAreDatedBehindTheirInstant(t *testing.T) {
	w := newWorld()
	h := startHub(t, w, t.TempDir())
	hear[registry.ClockTrusted](t, h)
	for i := range 100 {
		at := w.clock.Now().Add(time.Duration(100+3*i) * time.Millisecond).Format(time.RFC3339Nano)
		h.must(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%d", i), ExpiresAt: &at})
	}
	w.creep.Store(true)
	for i := 0; i < 100 || w.clock.Elapsed() < 500*time.Millisecond; i++ {
		h.must(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("more-%d", i)})
	}
	w.creep.Store(false)
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	recorded := 0
	for seq := uint64(1); seq <= last.StreamSeq; seq++ {
		e, err := w.log.Read(t.Context(), seq)
		require.NoError(t, err)
		for _, one := range e.Commit.Events() {
			if f, ok := one.Fact.(*events.Expired); ok {
				recorded++
				assert.GreaterOrEqual(t, e.Commit.Time, f.ExpiresAt)
			}
		}
	}
	assert.Greater(t, recorded, 50)
}

// TestGroupsAreBoundedByTime: refusals take no room in a commit, but they take time from whoever waits behind them. Here all have to
// be decided again, for another commit came first.
func TestGroupsAreBoundedByTime(t *testing.T) {
	w := newWorld()
	h := startHub(t, w, t.TempDir())
	hear[registry.ClockTrusted](t, h)
	entered, release := make(chan struct{}), make(chan struct{})
	h.log.Inject(eventlogtest.Fault{Before: func() { close(entered); <-release }})
	var callers sync.WaitGroup
	create := func(i int) {
		callers.Go(func() {
			_, err := h.do(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%d", i)})
			assert.NoError(t, err)
		})
	}
	create(0)
	<-entered
	const waiting = 200
	for i := 1; i <= waiting; i++ {
		create(i)
	}
	require.Eventually(t, func() bool { return h.Asking() == waiting+1 && h.Waiting() == 0 }, 20*time.Second, time.Millisecond)
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	rival := eventlogtest.NewCommitOf(t, eventlogtest.Behind(last),
		events.Event{Project: "rival", Fact: &events.ProjectOpened{}, Admin: events.Admin{}.Plain()})
	_, err = w.log.Append(t.Context(), eventlogtest.Behind(last), rival)
	require.NoError(t, err)
	w.creep.Store(true)
	close(release)
	callers.Wait()
	w.creep.Store(false)
	newest, err := w.log.Last(t.Context())
	require.NoError(t, err)
	assert.Greater(t, newest.StreamSeq, last.StreamSeq+2, "more than one commit behind the rival's")
}

// TestNoTermWithoutSelfLease: a registry that slept after it was elected opens nothing.
func TestNoTermWithoutSelfLease(t *testing.T) {
	w := newWorld()
	h := openHub(t, w, t.TempDir())
	h.office.setLease(0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	hear[registry.SteppedDown](t, h)
	cancel()
	<-done
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	assert.Equal(t, uint64(1), last.StreamSeq)
}

func TestReplayedDelete(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	gone := h.must(t, registry.KeyDelete, registry.Request{Key: "demo-key", CommandID: "d1"})
	assert.Equal(t, registry.Deleted, gone.Status)
	assert.Equal(t, made.Hint, gone.Hint)
	description := "another key of that name"
	other := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", Description: &description})
	again := h.must(t, registry.KeyDelete, registry.Request{Key: "demo-key", CommandID: "d1"})
	assert.True(t, again.Replayed)
	assert.Equal(t, made.ID, again.ID)
	assert.Equal(t, gone.Seq, again.Seq)
	assert.Nil(t, again.Description)
	assert.NotEqual(t, other.Hint, again.Hint)
	h.must(t, registry.KeyGet, registry.Request{Key: other.ID})
}

func TestCancelledSearch(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Do(ctx, registry.Command{Project: "acme", Actor: "alice", Verb: registry.KeyList, Request: registry.Request{Search: "zzz"}})
	require.Error(t, err)
}
