package fleet_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry/fleet"
)

func fleetOfOne() (*fleet.Fleet, head.Head, events.InstanceID) {
	id := events.InstanceID{1}
	end := head.Head{Incarnation: events.Incarnation{1}, Seq: 2, Chain: events.ChainHash{2}}
	charter := &projections.Charter{ChangedAt: 2, Lease: projections.Lease{Length: time.Minute}, Members: map[events.InstanceID]projections.Member{
		id: {Instance: id, Mode: events.ModeDeny, RegisteredAt: 1},
	}}
	return fleet.Open(fleet.Term{Number: 1}, charter, end, [32]byte{}), end, id
}

func TestNothingIsSaidOfASeqThatIsNotKnown(t *testing.T) {
	f, _, _ := fleetOfOne()
	v := f.Verdict(3, time.Second)
	require.NotEqual(t, fleet.Confirmed, v.State, "%+v", v)
}

// A cut ends, and the renewals that were given up in it arrive together with the live one, all with the same ticket.
func TestRenewalsThatOvertakeEachOtherTearNobody(t *testing.T) {
	f, end, id := fleetOfOne()
	ask := func(shows, gets byte) error {
		_, err := f.Grant(&head.Renewal{Ack: head.Ack{Instance: id, Head: end}, Ticket: head.Ticket{shows}}, head.Ticket{gets}, time.Second)
		return err
	}
	require.NoError(t, ask(0, 1))
	require.NoError(t, ask(1, 11)) // the live one: the verifier has ticket 11 now
	require.NoError(t, ask(1, 12)) // the one that was given up, and sent before
	require.NoError(t, ask(11, 13), "there is one machine only")
	require.ErrorIs(t, ask(1, 14), fleet.ErrLate, "and this one came later still")
	require.NoError(t, ask(13, 15))
	require.ErrorIs(t, ask(12, 16), fleet.ErrTorn, "nobody has that, but a copy")
}

// One whose disk is full asks for leave for ever, and cannot use it.
func TestOneThatCannotRebuildMakesWay(t *testing.T) {
	a, b := events.InstanceID{1}, events.InstanceID{2}
	end := head.Head{Incarnation: events.Incarnation{1}, Seq: 2, Chain: events.ChainHash{2}}
	charter := &projections.Charter{ChangedAt: 2, Lease: projections.Lease{Length: time.Minute}, Members: map[events.InstanceID]projections.Member{
		a: {Instance: a, PoP: "fra", Mode: events.ModeDeny, RegisteredAt: 1}, b: {Instance: b, PoP: "ams", Mode: events.ModeDeny, RegisteredAt: 1},
	}}
	f := fleet.Open(fleet.Term{Number: 1}, charter, end, [32]byte{})
	leave := false
	for s := range 1200 {
		for _, id := range []events.InstanceID{a, b} {
			g, err := f.Grant(&head.Renewal{Ack: head.Ack{Instance: id, Head: end}, State: "quarantined", WantsToRebuild: true}, head.Ticket{}, time.Duration(s)*time.Second)
			require.NoError(t, err)
			leave = leave || id == b && g.Rebuild
		}
	}
	require.True(t, leave, "the other had its time")
}

// What a verifier says of the time may be anything.
func TestClocksThatAreFarOff(t *testing.T) {
	f, end, id := fleetOfOne()
	const own = events.Instant(1_800_000_000_000)
	require.Equal(t, fleet.Clocks{Members: 1}, f.Clocks(own, time.Second), "not heard of yet")
	for said, ahead := range map[events.Instant]time.Duration{
		own: 2 * time.Second, own - 5000: 7 * time.Second, own + 2000: 0, own + 9000: -7 * time.Second,
		-62_167_219_200_000: time.Duration(1<<63 - 1).Truncate(time.Millisecond), 253_402_300_799_999: -time.Duration(1<<63 - 1).Truncate(time.Millisecond),
	} {
		_, err := f.Grant(&head.Renewal{Ack: head.Ack{Instance: id, Head: end}, Wall: said}, head.Ticket{}, time.Second)
		require.NoError(t, err)
		require.Equal(t, fleet.Clocks{Members: 1, Heard: 1, Ahead: ahead}, f.Clocks(own+2000, time.Second), said)
	}
	_, err := f.Grant(&head.Renewal{Ack: head.Ack{Instance: id, Head: end}, Wall: own}, head.Ticket{}, time.Second)
	require.NoError(t, err)
	require.Equal(t, time.Second, f.Clocks(own+2000, 2*time.Second).Ahead, "it has gone on since")
	require.Zero(t, f.Clocks(own, 12*time.Second).Heard, "that was too long ago")
	_, err = f.Grant(&head.Renewal{Ack: head.Ack{Instance: id, Head: end}, Wall: events.Never}, head.Ticket{}, 12*time.Second)
	require.NoError(t, err)
	require.Zero(t, f.Clocks(own, 12*time.Second).Heard)
}
