package keyindex

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// BenchmarkApply creates keys that each open one deployment, in batches of so many events.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			h := newHistory(b, 1)
			idx := openIndex(b, b.TempDir(), Options{})
			require.NoError(b, idx.Apply([]events.Entry{h.open()}))
			dep := []events.DeploymentID{h.id()}
			var log []events.Entry
			for made := 0; made < b.N; made += size {
				es := make([]events.Event, size)
				for i := range es {
					es[i] = events.Event{Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.Created{
						Digest: h.bytes32(), Deployments: dep, ExpiresAt: events.Never,
					}}
				}
				log = append(log, h.commit(es...))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range log {
				if err := idx.Apply(log[i : i+1]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkApplyMany applies thirty full commits at a time, as to one who is far behind: of keys that are created, and of keys that
// come and go, where half of the events are creates and the others disable or delete any key that is there.
func BenchmarkApplyMany(b *testing.B) {
	for name, share := range map[string]int{"creates": 0, "churn": 2} {
		b.Run(name, func(b *testing.B) {
			h := newHistory(b, 1)
			idx := openIndex(b, b.TempDir(), Options{})
			require.NoError(b, idx.Apply([]events.Entry{h.open()}))
			log := h.churn(b.N, share)
			b.ResetTimer()
			for some := range slices.Chunk(log, 30) {
				require.NoError(b, idx.Apply(some))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// churn makes full commits of so many events in all, of which each share-th is about a key that is there, if share is not 0.
func (h *history) churn(size, share int) (log []events.Entry) {
	var living []*projections.Key
	es := make([]events.Event, 0, events.MaxCommitEvents)
	for n := range size {
		var e events.Event
		if share == 0 || n%share != 0 || len(living) < 10_000 {
			e = events.Event{Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.Created{Digest: h.bytes32(), ExpiresAt: events.Never}}
			living = append(living, &projections.Key{ID: e.Subject, Rev: 1})
		} else {
			at := h.r.IntN(len(living))
			k := living[at]
			k.Rev++
			e = events.Event{Project: "demo", Subject: k.ID, Rev: k.Rev, Fact: &events.Disabled{}}
			if k.Rev > 2 || h.r.IntN(2) == 0 {
				e.Fact = &events.Deleted{}
				living[at], living = living[len(living)-1], living[:len(living)-1]
			}
		}
		if es = append(es, e); len(es) == cap(es) || n == size-1 {
			log, es = append(log, h.commit(es...)), make([]events.Event, 0, cap(es))
		}
	}
	return log
}

// BenchmarkApplyLimit writes the same records in batches of the same size into a bare store: what is left for Apply to do better.
func BenchmarkApplyLimit(b *testing.B) {
	const size = 1000
	db, err := (&Options{}).open(b.TempDir(), nil)
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	h := newHistory(b, 1)
	dep := []events.DeploymentID{h.id()}
	keys := make([]projections.Key, b.N)
	for i := range keys {
		keys[i] = projections.Key{ID: h.id(), Digest: h.bytes32(), Rev: 1, Project: "demo", Deployments: dep, ExpiresAt: events.Never}
	}
	b.ResetTimer()
	for some := range slices.Chunk(keys, size) {
		batch := db.NewBatch()
		for i := range some {
			require.NoError(b, batch.Set(digestKey(some[i].Digest), appendKey(nil, &some[i]), nil))
			require.NoError(b, batch.Set(idKey(some[i].ID), some[i].Digest[:], nil))
		}
		require.NoError(b, batch.Commit(pebble.NoSync))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOpen opens an index until all checks are answered from its front; before that, once it is open, its store answers.
// Ten million keys take minutes to make; KEYFLEET_BENCH_10M=1 has them.
func BenchmarkOpen(b *testing.B) {
	sizes := []int{1_000_000}
	if testing.Short() {
		sizes = []int{100_000}
	} else if os.Getenv("KEYFLEET_BENCH_10M") != "" {
		sizes = append(sizes, 10_000_000)
	}
	for _, size := range sizes {
		b.Run(fmt.Sprintf("keys=%d", size), func(b *testing.B) {
			dir := b.TempDir()
			makeKeys(b, dir, size)
			for b.Loop() {
				began := time.Now()
				idx := openIndex(b, dir, Options{})
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "open-ms")
				idx.filling.Wait()
				require.NotNil(b, idx.front.Load())
				b.ReportMetric(float64(idx.front.Load().table.Bytes())/float64(size), "front-B/key")
				require.NoError(b, idx.Close())
			}
		})
	}
}

func makeKeys(b *testing.B, dir string, size int) {
	h := newHistory(b, 1)
	idx := openIndex(b, dir, Options{})
	require.NoError(b, idx.Apply([]events.Entry{h.open()}))
	dep := []events.DeploymentID{h.id()}
	es := make([]events.Event, 1000)
	for range size / len(es) {
		for i := range es {
			es[i] = events.Event{Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.Created{
				Digest: h.bytes32(), Deployments: dep, ExpiresAt: events.Never,
			}}
		}
		require.NoError(b, idx.Apply([]events.Entry{h.commit(es...)}))
	}
	require.NoError(b, idx.Close())
}
