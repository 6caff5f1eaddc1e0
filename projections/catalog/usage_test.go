package catalog_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

const (
	keyA = 1
	keyB = 2
)

var storedAt = time.UnixMilli(1_800_000_100_000)

// withKeys is a catalog in which keys A and B live.
func withKeys(t *testing.T, fs vfs.FS) (*catalog.Catalog, *world) {
	c := open(t, fs)
	w := &world{t: t, now: 1_800_000_000_000}
	w.append(c, events.Event{Fact: &events.LogOpened{Incarnation: events.Incarnation{1}}, Admin: events.Admin{}.Plain()})
	for _, id := range []byte{keyA, keyB} {
		w.append(c, events.Event{Project: "acme", Subject: [16]byte{id}, Rev: 1,
			Fact: &events.Created{Digest: events.Digest{id}, ExpiresAt: events.Never}, Admin: events.Admin{}.Plain()})
	}
	return c, w
}

func used(run byte, number uint64, counts ...usage.Count) *usage.Batch {
	return &usage.Batch{Incarnation: events.Incarnation{1}, Seq: 3, Run: usage.Run{run}, Number: number, Counts: counts}
}

func times(key byte, uses uint64, last events.Instant) usage.Count {
	return usage.Count{Key: events.KeyID{key}, Uses: uses, Last: last}
}

func usageOf(t *testing.T, c *catalog.Catalog, key byte) catalog.Usage {
	r := c.Read()
	defer func() { require.NoError(t, r.Close()) }()
	u, err := r.Usage(events.KeyID{key})
	require.NoError(t, err)
	return u
}

func TestEachBatchCountsOnce(t *testing.T) {
	c, _ := withKeys(t, vfs.NewMem())
	place := catalog.UsagePlace{Stream: 7}
	add := func(verifier string, b *usage.Batch) {
		t.Helper()
		place.Seq++
		require.NoError(t, c.AddUsage(verifier, b, place, storedAt))
		at, err := c.UsagePlace()
		require.NoError(t, err)
		require.Equal(t, place, at)
	}
	add("fra", used(1, 1, times(keyA, 5, 100), times(keyB, 1, 50)))
	add("fra", used(1, 1, times(keyA, 5, 100), times(keyB, 1, 50))) // sent again, for its answer was lost
	require.Equal(t, catalog.Usage{Uses: 5, Last: 100}, usageOf(t, c, keyA))
	require.Equal(t, catalog.Usage{Uses: 1, Last: 50}, usageOf(t, c, keyB))
	add("fra", used(1, 3, times(keyA, 2, 90))) // the one before it was forgotten on its way
	add("fra", used(1, 2, times(keyA, 2, 90)))
	add("ams", used(2, 1, times(keyA, 3, 80)))
	add("fra", used(3, 1, times(keyA, 1, 70))) // begun anew
	add("fra", used(1, 3, times(keyA, 2, 90)))
	require.Equal(t, catalog.Usage{Uses: 11, Last: 100}, usageOf(t, c, keyA))
	add("fra", used(3, 2, times(keyB, usage.MaxUses, 1<<62))) // a clock far ahead, or a lie
	require.Equal(t, events.InstantOf(storedAt), usageOf(t, c, keyB).Last)
	place.Seq = 99
	require.NoError(t, c.PassUsage(place))
	at, err := c.UsagePlace()
	require.NoError(t, err)
	require.Equal(t, place, at)
	require.NoError(t, c.Close())
}

func TestUsageEndsWithItsKey(t *testing.T) {
	fs := vfs.NewMem()
	c, w := withKeys(t, fs)
	require.NoError(t, c.AddUsage("fra", used(1, 1, times(keyA, 5, 100), times(keyB, 1, 50)), catalog.UsagePlace{Seq: 1}, storedAt))
	before := len(c.Dump())
	w.append(c, events.Event{Project: "acme", Subject: [16]byte{keyA}, Rev: 2, Fact: &events.Deleted{}, Admin: events.Admin{}.Plain()})
	require.Zero(t, usageOf(t, c, keyA))
	require.Less(t, len(c.Dump()), before)
	before = len(c.Dump())
	require.NoError(t, c.AddUsage("fra", used(1, 2, times(keyA, 5, 100), times(9, 1, 50)), catalog.UsagePlace{Seq: 2}, storedAt))
	require.Len(t, c.Dump(), before, "nothing is kept of keys that do not live")
	require.Equal(t, catalog.Usage{Uses: 1, Last: 50}, usageOf(t, c, keyB))
	require.NoError(t, c.Close())
	c = open(t, fs)
	require.Equal(t, catalog.Usage{Uses: 1, Last: 50}, usageOf(t, c, keyB), "it outlives a clean stop")
	require.NoError(t, c.Close())
}

// However much a crash takes, the sum is that of all batches before the place that is left.
func TestUsageSurvivesCrashes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	c, _ := withKeys(t, fs)
	require.NoError(t, c.Close())
	c = open(t, fs)
	stored := storedAt
	place, err := c.UsagePlace()
	require.NoError(t, err)
	for range 300 {
		place.Seq++
		stored = stored.Add(time.Duration(rng.IntN(20)) * time.Minute)
		require.NoError(t, c.AddUsage("fra", used(1, place.Seq, times(keyA, 1, events.Instant(place.Seq))), place, stored))
		if rng.IntN(10) == 0 {
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			require.NoError(t, c.Close())
			fs, c = crashed, open(t, crashed)
			place, err = c.UsagePlace()
			require.NoError(t, err)
			require.Equal(t, catalog.Usage{Uses: place.Seq, Last: events.Instant(place.Seq)}, usageOf(t, c, keyA))
		}
	}
	require.NoError(t, c.Close())
}
