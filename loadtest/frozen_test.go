package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
)

// A tenth of the fleet hears nothing any more, and goes on answering until its leases are over. The verdict on a revocation names exactly
// those, says by when they have stopped, and nobody accepts after it.
func TestATenthOfTheFleetIsFrozen(t *testing.T) {
	const verifiers, frozen, lease = 30, 3, 8 * time.Second
	f := newFleet(t)
	eventlogtest.Age(t, f.server.Connect(), lease)
	f.startRegistry()
	key := f.createAttached("victim")
	edges := f.startVerifiers(verifiers)
	var names []string
	for i, e := range edges {
		require.Eventually(t, func() bool { return e.accepts(key) }, 20*time.Second, time.Millisecond)
		if i < frozen {
			e.line.hold()
			names = append(names, fmt.Sprintf("edge-%03d", i))
		}
	}

	var reply registry.KeyReply
	sent := time.Now()
	request := registry.Request{Key: "victim", Wait: registry.WaitConfirmed, WaitTimeout: "2s"}
	require.NoError(t, natsapi.NewClient(f.server.Connect(), "bench", "bench").Do(t.Context(), registry.KeyDelete, request, &reply))
	replied := time.Now()
	require.Equal(t, "pending", reply.Confirmation.State)
	assert.Equal(t, verifiers-frozen, reply.Confirmation.Acked)
	assert.Equal(t, names, waitingNames(reply.Confirmation))
	fence := reply.Confirmation.FencedAt
	require.NotNil(t, fence)
	assert.GreaterOrEqual(t, *fence, events.InstantOf(sent.Add(projections.Fence(lease)))-1, "a grant may be as old as the revocation")
	if before := f.opened.Add(registry.SelfLease); replied.Before(before) {
		replied = before // the term before, had there been one, could have granted until then
	}
	assert.LessOrEqual(t, *fence, events.InstantOf(replied.Add(projections.Fence(lease)))+1)
	for i, e := range edges {
		assert.Equal(t, i < frozen, e.accepts(key), "edge %d: until the fence those that were told deny, and the others cannot know", i)
	}

	final := f.receipt(reply.Seq, "30s")
	require.Equal(t, "fenced", final.State)
	assert.Equal(t, names, waitingNames(final))
	assert.GreaterOrEqual(t, events.InstantOf(time.Now()), *fence-1)
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		for _, e := range edges {
			require.False(t, e.accepts(key), "after the verdict")
		}
	}
	for _, e := range edges[:frozen] {
		e.line.release()
		require.Eventually(t, func() bool { return e.Status().Ready }, 20*time.Second, time.Millisecond)
		require.False(t, e.accepts(key), "it answers again, from behind the revocation")
	}
}

func waitingNames(c *registry.Confirmation) (names []string) {
	for _, w := range c.Waiting {
		names = append(names, w.Verifier)
	}
	slices.Sort(names)
	return names
}

// createAttached makes a key that opens the deployment llama of the project bench.
func (f *fleet) createAttached(name string) (secret []byte) {
	_, err := f.svc.Do(f.Context(), registry.Command{Project: "bench", Actor: "bench", Verb: registry.DeploymentRegister,
		Request: registry.Request{Name: "llama"}})
	require.NoError(f, err)
	reply, err := f.svc.Do(f.Context(), registry.Command{Project: "bench", Actor: "bench", Verb: registry.KeyCreate,
		Request: registry.Request{Name: name, Deployments: &[]string{"llama"}}})
	require.NoError(f, err)
	key, ok := reply.(*registry.KeyReply)
	require.True(f, ok)
	return []byte(key.Secret)
}

// receipt gives the verdict on a Seq, once it is final or patience ends.
func (f *fleet) receipt(seq events.Seq, patience string) *registry.Confirmation {
	reply, err := f.svc.Do(f.Context(), registry.Command{Actor: "bench", Verb: registry.FleetConfirm,
		Request: registry.Request{Seq: uint64(seq), WaitTimeout: patience}})
	require.NoError(f, err)
	receipt, ok := reply.(*registry.ReceiptReply)
	require.True(f, ok)
	return receipt.Confirmation
}

func (e *edge) accepts(key []byte) bool {
	return e.Check(e.fleet.Context(), verifier.Request{Project: "bench", Deployment: "llama", Key: key}).Allowed()
}
