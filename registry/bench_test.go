package registry_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
)

// BenchmarkCommands has callers create keys, each waiting for its reply, on one server that syncs always. deletes/ has them delete
// as many again, in random order, that were just created. publishes/ is the yardstick: the same callers, each publishing 200 bytes to a
// stream of its own kind.
func BenchmarkCommands(b *testing.B) {
	server := eventlogtest.StartServer(b)
	nc := server.Connect()
	_, err := eventlog.Init(b.Context(), nc, eventlog.InitOptions{Actor: "bench"})
	require.NoError(b, err)
	log, err := eventlog.Open(b.Context(), nc, eventlog.Options{SyncAlways: server.SyncAlways})
	require.NoError(b, err)
	cat, err := catalog.Open(b.TempDir(), catalog.Options{})
	require.NoError(b, err)
	heads, err := registry.OpenHeadFile(b.TempDir())
	require.NoError(b, err)
	opened := make(chan struct{})
	svc := registry.NewService(log, cat, &office{lease: longLease * 1000}, registry.Options{
		Name: "bench", Heads: heads, Observe: func(e registry.Event) {
			if _, ok := e.(registry.TermOpened); ok {
				close(opened)
			}
		},
	})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- svc.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done; _ = cat.Close(); _ = heads.Close() })
	<-opened

	var made atomic.Int64
	create := func(ctx context.Context) error {
		n := made.Add(1)
		_, err := svc.Do(ctx, registry.Command{Project: "bench", Actor: "bench", Verb: registry.KeyCreate, Request: registry.Request{
			Name:      fmt.Sprintf("key-%09d", n),
			CommandID: fmt.Sprintf("c-%d", n),
			Digest:    fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, n))), // as the command line sends it
			Hint:      "kf_aaaa…zzzz",
		}})
		return err
	}
	var names []string
	var gone atomic.Int64
	remove := func(ctx context.Context) error {
		_, err := svc.Do(ctx, registry.Command{Project: "bench", Actor: "bench", Verb: registry.KeyDelete, Request: registry.Request{
			Key: names[gone.Add(1)-1], CommandID: rand.Text(),
		}})
		return err
	}
	js, err := jetstream.New(nc)
	require.NoError(b, err)
	_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "YARDSTICK", Subjects: []string{"yardstick"}, Storage: jetstream.FileStorage})
	require.NoError(b, err)
	payload := make([]byte, 200)
	publish := func(ctx context.Context) error {
		_, err := js.Publish(ctx, "yardstick", payload)
		return err
	}
	for _, callers := range []int{1, 64, 256, 1000} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { share(b, callers, create) })
	}
	b.Run("deletes/callers=1000", func(b *testing.B) {
		first := made.Load() + 1
		share(b, 1000, create)
		names = names[:0]
		gone.Store(0)
		for n := range b.N {
			names = append(names, fmt.Sprintf("key-%09d", first+int64(n)))
		}
		mathrand.Shuffle(b.N, func(i, j int) { names[i], names[j] = names[j], names[i] })
		share(b, 1000, remove)
	})
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("publishes/callers=%d", callers), func(b *testing.B) { share(b, callers, publish) })
	}
}

// share has callers do b.N calls between them.
func share(b *testing.B, callers int, call func(context.Context) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
