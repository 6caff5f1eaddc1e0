package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
)

const (
	revocations = 300
	reconnects  = 3
)

// BenchmarkRevocation measures how long a caller waits who deletes a key and wants to know that it is dead everywhere: from the sending of
// the command over NATS to a reply that says confirmed. One caller, one key at a time. Run it with -benchtime 1x.
func BenchmarkRevocation(b *testing.B) {
	for _, verifiers := range []int{1, 10, 100, 500} {
		b.Run(fmt.Sprintf("verifiers=%d", verifiers), func(b *testing.B) {
			f := newFleet(b)
			f.startRegistry()
			f.create("key", revocations, "never")
			f.startVerifiers(verifiers)
			c := natsapi.NewClient(f.server.Connect(), "bench", "bench")
			b.ResetTimer()
			var waited spread
			for i := range revocations {
				waited = append(waited, f.revoke(c, i))
			}
			waited.report(b, "")
		})
	}
}

// BenchmarkReconnect measures the same while the whole fleet loses its connections and comes back at once: once with each verifier's
// own connection closed as the command is sent, and once with the server stopped and started again under everybody.
func BenchmarkReconnect(b *testing.B) {
	const verifiers = 500
	f := newFleet(b)
	f.startRegistry()
	f.create("key", 2*reconnects, "never")
	edges := f.startVerifiers(verifiers)
	c := natsapi.NewClient(f.server.Connect(), "bench", "bench")
	var cut, restarted spread
	for i := range reconnects {
		for _, e := range edges {
			require.NoError(b, e.nc.ForceReconnect())
		}
		cut = append(cut, f.revoke(c, i))
	}
	for i := range reconnects {
		f.server.Stop()
		f.server.Start()
		restarted = append(restarted, f.revoke(c, reconnects+i))
	}
	cut.report(b, "cut-")
	restarted.report(b, "restart-")
}

// startVerifiers starts n with small indexes, and returns once all answer. They join, and end, at once: each commit that changes the
// members has every one of them write the list of all, and here they share a machine.
func (f *fleet) startVerifiers(n int) []*edge {
	edges := make([]*edge, n)
	for i := range edges {
		edges[i] = f.openVerifier(fmt.Sprintf("edge-%03d", i), verifier.Options{CacheBytes: 1 << 20})
		edges[i].line.hold()
		edges[i].start()
	}
	for _, e := range edges {
		e.line.release()
	}
	for _, e := range edges {
		<-e.ready
	}
	f.Cleanup(func() {
		for _, e := range edges {
			e.line.hold() // no goodbyes
		}
	})
	return edges
}

// revoke deletes the i-th key and gives how long it took until that was confirmed. As the CLI does, it waits in short pieces: an
// answer that was lost is missed no longer than that.
func (f *fleet) revoke(c *natsapi.Client, i int) time.Duration {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	defer cancel()
	const piece = "1s"
	var reply registry.KeyReply
	sent := time.Now()
	request := registry.Request{Key: fmt.Sprintf("key-%06d", i), Wait: registry.WaitConfirmed, WaitTimeout: piece}
	require.NoError(f, c.Do(ctx, registry.KeyDelete, request, &reply))
	now := registry.ReceiptReply{Confirmation: reply.Confirmation}
	for now.Confirmation.State != "confirmed" {
		require.NoError(f, c.Do(ctx, registry.FleetConfirm, registry.Request{Seq: uint64(reply.Seq), WaitTimeout: piece}, &now))
	}
	return time.Since(sent)
}
