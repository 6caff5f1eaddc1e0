package registry_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

// Between the catalog's batch and what the fleet is told of it, nothing can be said of a Seq.
func TestNothingIsConfirmedBeforeTheFleetKnowsOfIt(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a := h.edge(t, "fra-1", events.ModeDeny)
	a.renews() // and never acknowledges anything again
	var next atomic.Uint64
	next.Store(uint64(a.end().Seq) + 1)
	var lies atomic.Int64
	done := make(chan struct{})
	var askers sync.WaitGroup
	for range 2 {
		askers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				ask := registry.Command{Actor: "alice", Verb: registry.FleetConfirm, Request: registry.Request{Seq: next.Load()}}
				reply, err := h.Do(t.Context(), ask)
				if err == nil && reply.(*registry.ReceiptReply).Confirmation.State == "confirmed" {
					lies.Add(1)
				}
			}
		})
	}
	for i := range 300 {
		k := h.must(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%06d", i)})
		next.Store(uint64(k.Seq) + 1)
	}
	close(done)
	askers.Wait()
	require.Zero(t, lies.Load(), "confirmed, and fra-1 has acknowledged none of it")
}

// Two are elected at once, as an election may err: the log has the last word. The deposed one steps down, and does not end for good.
func TestADeposedRegistryStepsDownForAHealthyVerifier(t *testing.T) {
	w := newWorld()
	a := startHub(t, w, t.TempDir())
	e := a.edge(t, "fra-1", events.ModeDeny)
	e.renews()
	b := startHub(t, w, t.TempDir()) // its term is newer; a has not noticed, and is inside its self-lease
	e.hub = b
	e.renews() // renewals reach both
	e.hub = a
	e.at = e.end()
	_, err := e.ask()
	requireRefusal(t, registry.Unavailable, err)
	hear[registry.SteppedDown](t, a)
	require.Empty(t, a.ended)
}
