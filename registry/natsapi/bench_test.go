package natsapi_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// BenchmarkCommands has callers on one connection create keys, each waiting for its answer, on one server that syncs
// always. Two yardsticks stand beside it: echo/ is a nats micro service that answers at once, and publishes/ has
// the same callers publish 200 bytes each to a stream on the same server.
func BenchmarkCommands(b *testing.B) {
	server := startServer(b)
	<-startHub(b, server, "bench").opened
	nc := server.Connect()
	client := natsapi.NewClient(nc, "bench", "bench")
	var made atomic.Int64
	create := func(ctx context.Context) error {
		n := made.Add(1)
		var reply registry.KeyReply
		return client.Do(ctx, registry.KeyCreate, registry.Request{
			Name:   fmt.Sprintf("key-%09d", n),
			Digest: fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, n))), // as the command line sends it
			Hint:   "kf_aaaa…zzzz",
		}, &reply)
	}
	get := func(ctx context.Context) error {
		var reply registry.KeyReply
		return client.Do(ctx, registry.KeyGet, registry.Request{Key: "key-000000001"}, &reply)
	}

	echoes, err := micro.AddService(server.Connect(), micro.Config{Name: "echo", Version: "0.0.0"})
	require.NoError(b, err)
	answer := micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) })
	require.NoError(b, echoes.AddEndpoint("echo", answer))
	payload := make([]byte, 200)
	echo := func(ctx context.Context) error {
		_, err := nc.RequestWithContext(ctx, "echo", payload)
		return err
	}

	js, err := jetstream.New(nc)
	require.NoError(b, err)
	_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "YARDSTICK", Subjects: []string{"yardstick"}, Storage: jetstream.FileStorage})
	require.NoError(b, err)
	publish := func(ctx context.Context) error {
		_, err := js.Publish(ctx, "yardstick", payload)
		return err
	}
	for _, bench := range []struct {
		name string
		call func(context.Context) error
	}{{"create", create}, {"get", get}, {"echo", echo}, {"publishes", publish}} {
		for _, callers := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("%s/callers=%d", bench.name, callers), func(b *testing.B) { share(b, callers, bench.call) })
		}
	}
}

// share has callers do b.N calls between them.
func share(b *testing.B, callers int, call func(context.Context) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
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
