package keyindex

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/store"
)

// lived is an index with a bit of everything in it.
func lived(t *testing.T) *Index {
	t.Helper()
	h := newHistory(t, newSeed())
	idx := openIndex(t, t.TempDir(), small(nil))
	graced := h.id()
	require.NoError(t, idx.Apply([]events.Entry{h.open(), h.commit(
		h.tell("demo", h.id(), &events.DeploymentRegistered{Name: "echo", Host: "echo.test"}),
		h.tell("demo", graced, &events.Created{Digest: h.bytes32()}),
		h.tell("demo", graced, &events.Rotated{Digest: h.bytes32(), GraceUntil: events.Never}),
	)}))
	for range 30 {
		require.NoError(t, idx.Apply([]events.Entry{h.next(20)}))
	}
	require.NoError(t, idx.Scrub(t.Context(), 0))
	return idx
}

// Pebble's checksums know nothing of these: whole records, written as records are, and wrong.
func TestScrubFindsWrongRecords(t *testing.T) {
	for _, space := range []byte{charterSpace, deploymentSpace, idSpace, digestSpace, positionSpace} {
		for name, damage := range map[string]func(db *store.DB, key, value string) error{
			"changed": func(db *store.DB, key, value string) error {
				return db.Set([]byte(key), append([]byte(value[:len(value)-1]), value[len(value)-1]^1), pebble.NoSync)
			},
			"lost": func(db *store.DB, key, _ string) error { return db.Delete([]byte(key), pebble.NoSync) },
			"moved": func(db *store.DB, key, value string) error {
				return db.Set([]byte(key+"x"), []byte(value), pebble.NoSync)
			},
		} {
			t.Run(string(space)+" "+name, func(t *testing.T) {
				idx := lived(t)
				all := dump(t, idx)
				keys := slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(key string) bool { return key[0] != space })
				require.NotEmpty(t, keys)
				require.NoError(t, damage(idx.db, keys[len(keys)/2], all[keys[len(keys)/2]]))
				require.ErrorIs(t, idx.Scrub(t.Context(), 0), ErrDiverged)
			})
		}
	}
}

func TestScrubFindsWrongMemory(t *testing.T) {
	for name, damage := range map[string]func(v *view){
		"position": func(v *view) { v.position.Time++ },
		"digest":   func(v *view) { v.digest[31] ^= 1 },
		"charter": func(v *view) {
			wrong := *v.charter
			wrong.ForeignKeys = !wrong.ForeignKeys
			v.charter = &wrong
		},
		"list of deployments": func(v *view) {
			v.deployments = v.deployments.clone()
			for name, d := range v.deployments.byName { // all may have lost their hosts
				wrong := *d
				wrong.ID[0] ^= 1
				v.deployments.byName[name] = &wrong
				return
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			idx := lived(t)
			wrong := *idx.view.Load()
			damage(&wrong)
			idx.view.Store(&wrong)
			err := idx.Scrub(t.Context(), 0)
			require.ErrorIs(t, err, ErrDiverged)
			require.ErrorContains(t, err, "the "+name+" in memory")
		})
	}
}

func TestScrubBesideAWriter(t *testing.T) {
	h := newHistory(t, newSeed())
	idx := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, idx.Scrub(t.Context(), 0), "an empty index is whole")
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	done := make(chan error, 1)
	go func() {
		for range 400 {
			if err := idx.Apply([]events.Entry{h.next(20)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for scrubs := 1; ; scrubs++ {
		require.NoError(t, idx.Scrub(t.Context(), 0))
		select {
		case err := <-done:
			require.NoError(t, err)
			require.NoError(t, idx.Scrub(t.Context(), 0))
			t.Logf("%d scrubs", scrubs)
			return
		default:
		}
	}
}

func TestSlowScrubEndsWithItsContextAndWithTheIndex(t *testing.T) {
	idx := lived(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- idx.Scrub(ctx, 1) }()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	go func() { ended <- idx.Scrub(t.Context(), 1) }()
	require.NoError(t, idx.Close())
	require.ErrorIs(t, <-ended, ErrClosed)
	require.ErrorIs(t, idx.Scrub(t.Context(), 1), ErrClosed)
}

func TestStretchesMissNothing(t *testing.T) {
	idx := openIndex(t, t.TempDir(), small(nil))
	h := newHistory(t, newSeed())
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	for range 12 { // more than two stretches
		es := make([]events.Event, 0, 1000)
		for range cap(es) {
			es = append(es, h.tell("demo", h.id(), &events.Created{Digest: h.bytes32(), Deployments: []events.DeploymentID{h.id()}}))
		}
		require.NoError(t, idx.Apply([]events.Entry{h.commit(es...)}))
	}
	require.NoError(t, idx.Scrub(t.Context(), 0))
	last := projections.Key{}
	for _, k := range h.keys {
		if slices.Compare(k.Digest[:], last.Digest[:]) > 0 {
			last = *k
		}
	}
	require.NoError(t, idx.db.Delete(digestKey(last.Digest), pebble.NoSync))
	require.ErrorIs(t, idx.Scrub(t.Context(), 0), ErrDiverged)
}
