package snapshots_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/keyindex"
	"github.com/keyfleet/keyfleet/projections/snapshot"
	"github.com/keyfleet/keyfleet/registry/snapshots"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/verifiertest"
)

// hub keeps snapshots of a log in memory in an object store on NATS.
type hub struct {
	*testing.T
	log    *eventlogtest.Memory
	last   events.Position
	store  *eventlog.Snapshots
	active atomic.Bool
}

func start(t *testing.T, every events.Seq, active bool) *hub {
	server := eventlogtest.StartServer(t)
	store, err := eventlog.KeepSnapshots(t.Context(), server.Connect(), 1)
	require.NoError(t, err)
	h := &hub{T: t, log: eventlogtest.NewMemory(), store: store}
	h.active.Store(active)
	first, err := h.log.Last(t.Context())
	require.NoError(t, err)
	h.last = eventlogtest.Behind(first)
	index, err := keyindex.Open(filepath.Join(t.TempDir(), "keyindex"), keyindex.Options{})
	require.NoError(t, err)
	keeper := snapshots.New(snapshots.Options{
		Source: h.log, Index: index, Objects: &clumsy{Snapshots: store}, Key: eventlogtest.SigningKey, Active: h.active.Load,
		Every: every, Look: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- keeper.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.NoError(t, index.Close())
	})
	return h
}

// clumsy fails at the first of every two deletions.
type clumsy struct {
	*eventlog.Snapshots
	deletions int
}

var errClumsy = errors.New("the first of two deletions fails")

func (c *clumsy) Delete(ctx context.Context, name string) error {
	if c.deletions++; c.deletions%2 == 1 {
		return errClumsy
	}
	return c.Snapshots.Delete(ctx, name)
}

func (h *hub) grow(commits int) {
	for range commits {
		entry, err := h.log.Append(h.Context(), h.last, eventlogtest.NewCommit(h, h.last, events.MaxCommitEvents))
		require.NoError(h, err)
		h.last = eventlogtest.Behind(entry)
	}
}

func (h *hub) newest() (snapshot.Manifest, error) {
	return snapshot.Newest(h.Context(), h.store, events.Position{}, events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:]))
}

func TestSnapshotsAreMadeAsTheLogGrows(t *testing.T) {
	h := start(t, 2_000, false)
	h.grow(3)
	require.Never(t, func() bool { _, err := h.newest(); return err == nil }, 50*time.Millisecond, 5*time.Millisecond, "a standby makes none")
	h.active.Store(true)
	for range 3 {
		h.grow(3)
		end := h.last.Seq
		require.Eventually(t, func() bool {
			m, err := h.newest()
			return err == nil && end-m.Position.Seq < 2_000
		}, 60*time.Second, 10*time.Millisecond)
	}
	require.Eventually(t, func() bool {
		names, err := h.store.List(t.Context())
		manifests := 0
		for _, name := range names {
			if len(name) > 9 && name[:9] == "manifest-" {
				manifests++
			}
		}
		return err == nil && manifests == 2
	}, 60*time.Second, 10*time.Millisecond, "old ones are pruned")
}

func TestANewVerifierBeginsFromTheSnapshot(t *testing.T) {
	h := start(t, 20_000, true)
	h.grow(22)
	require.Eventually(t, func() bool { _, err := h.newest(); return err == nil }, 60*time.Second, 10*time.Millisecond)
	h.grow(1)
	registry := verifiertest.New(h.log)
	caughtUp, installed := make(chan struct{}, 16), make(chan verifier.SnapshotInstalled, 16)
	run := func(dir string, keys ...events.PublicKey) {
		t.Helper()
		v, err := verifier.Open(dir, verifier.Options{
			Source: h.log, Uplink: registry, Name: "edge", LogKeys: append(keys, registry.Keys()...), Snapshots: h.store,
			Listen: func(e verifier.Event) {
				switch e := e.(type) {
				case verifier.CaughtUp:
					caughtUp <- struct{}{}
				case verifier.SnapshotInstalled:
					installed <- e
				}
			},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- v.Run(ctx) }()
		<-caughtUp
		require.Equal(t, h.last.Seq, v.Status().Position.Seq)
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, v.Close())
	}
	dir := t.TempDir()
	run(dir, events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:]))
	require.Len(t, installed, 1)
	require.GreaterOrEqual(t, (<-installed).Seq, events.Seq(20_000))
	h.grow(1)
	run(dir, events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:]))
	require.Empty(t, installed, "what it has is nearly as new")
	run(t.TempDir()) // whoever signed it is not pinned here: the log is read from its beginning
	require.Empty(t, installed)
}
