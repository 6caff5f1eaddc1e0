package fleet_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

// The log's servers tell verifiers of a commit no later than the registry that wrote it. Whoever waits for a verdict must not wait
// for the renewals, up to a second later, because the acknowledgement was too quick.
func TestAnAckMayComeBeforeTheRegistryKnows(t *testing.T) {
	at := func(seq events.Seq) head.Head {
		return head.Head{Incarnation: events.Incarnation{1}, Seq: seq, Chain: events.ChainHash{byte(seq)}}
	}
	quick, forked := events.InstanceID{1}, events.InstanceID{2}
	charter := &projections.Charter{ChangedAt: 2, Lease: projections.Lease{Length: time.Minute}, Members: map[events.InstanceID]projections.Member{
		quick:  {Instance: quick, Mode: events.ModeDeny, RegisteredAt: 1},
		forked: {Instance: forked, Mode: events.ModeDeny, RegisteredAt: 2},
	}}
	f := fleet.Open(fleet.Term{Number: 1}, charter, at(2), [32]byte{})
	f.Ack(head.Ack{Instance: quick, Head: at(3)}, time.Second)
	elsewhere := at(3)
	elsewhere.Chain = events.ChainHash{99}
	f.Ack(head.Ack{Instance: forked, Head: elsewhere}, time.Second)
	assert.Len(t, f.Verdict(2, time.Second).Missing, 1, "what is ahead says nothing yet: it may be another log's")

	f.Durable(charter, at(3), [32]byte{}, 2*time.Second)
	v := f.Verdict(3, 2*time.Second)
	assert.Equal(t, fleet.Pending, v.State)
	if assert.Len(t, v.Missing, 1) {
		assert.Equal(t, forked, v.Missing[0].Instance, "another chain is no acknowledgement, early or not")
	}
}
