package registry_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
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

// Many keys at once, as an import brings them, over lost requests and acknowledgements, and under a registry that is deposed in the
// midst of it. Whoever is told that nothing is known of a key sends it again; each is made once, and as was said.
func TestDoAllOverADeposition(t *testing.T) {
	const chunks, each = 8, 250
	w := newWorld()
	a := startHub(t, w, t.TempDir())
	var leads atomic.Pointer[hub]
	leads.Store(a)
	again := eventlogtest.Fault{} // none: it opens another term
	w.log.Inject(eventlogtest.Fault{LoseRequest: true}, again, eventlogtest.Fault{LoseAck: true}, again, eventlogtest.Fault{Before: func() {
		b := openHub(t, w, t.TempDir())
		b.start(t)
		leads.Store(b)
		go a.stop() // it is not to be elected again
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var unknown atomic.Int64
	var callers sync.WaitGroup
	said := make([]map[string]string, chunks) // ids by names
	for chunk := range chunks {
		callers.Go(func() {
			made := map[string]string{}
			said[chunk] = made
			for len(made) < each && ctx.Err() == nil {
				var cmds []registry.Command
				for i := range each {
					if name := fmt.Sprintf("key-%d-%03d", chunk, i); made[name] == "" {
						cmds = append(cmds, registry.Command{Project: "acme", Actor: "alice", Verb: registry.KeyCreate,
							Request: registry.Request{Name: name, CommandID: name}})
					}
				}
				leads.Load().DoAll(ctx, cmds, func(i int, reply any, err error) {
					if err == nil {
						made[cmds[i].Request.Name] = reply.(*registry.KeyReply).ID
					} else if unknown.Add(1); registry.AsRefusal(err).Code != registry.Unavailable {
						t.Errorf("%s: %v", cmds[i].Request.Name, err)
					}
				})
				time.Sleep(10 * time.Millisecond) // as a patient client would
			}
		})
	}
	callers.Wait()
	require.NoError(t, ctx.Err())
	require.NotSame(t, a, leads.Load(), "nobody deposed it")
	require.NotZero(t, unknown.Load(), "nothing was ever unknown")
	for _, made := range said {
		for name, id := range made {
			require.Equal(t, id, leads.Load().must(t, registry.KeyGet, registry.Request{Key: name}).ID)
		}
	}
	list, err := leads.Load().do(t, registry.KeyList, registry.Request{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, chunks*each, list.(*registry.KeyPage).Count)
}
