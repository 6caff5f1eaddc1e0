package projections_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

func event(rev uint64, f events.Fact) *events.Event {
	return &events.Event{Project: "acme", Subject: [16]byte{7}, Rev: rev, Fact: f}
}

func TestKeyEvolves(t *testing.T) {
	var k projections.Key
	a, b := events.DeploymentID{1}, events.DeploymentID{2}
	evolve := func(f events.Fact) {
		t.Helper()
		require.NoError(t, k.Evolve(event(k.Rev+1, f)))
	}
	evolve(&events.Created{Digest: events.Digest{1}, Deployments: []events.DeploymentID{b, a, b}, ExpiresAt: 100})
	assert.Equal(t, []events.DeploymentID{a, b}, k.Deployments)
	was := k
	evolve(&events.Detached{Deployments: []events.DeploymentID{a}})
	evolve(&events.Attached{Deployments: []events.DeploymentID{a}})
	evolve(&events.Detached{Deployments: []events.DeploymentID{b}})
	assert.Equal(t, []events.DeploymentID{a}, k.Deployments)
	assert.Equal(t, []events.DeploymentID{a, b}, was.Deployments, "copies stay as they were")

	evolve(&events.Expired{ExpiresAt: 99})
	assert.False(t, k.Expired, "it names an expiry that is no longer the key's")
	evolve(&events.Expired{ExpiresAt: 100})
	assert.True(t, k.Expired)
	evolve(&events.ExpiryChanged{ExpiresAt: 200})
	assert.False(t, k.Expired, "a later date revives the key")

	evolve(&events.Rotated{Digest: events.Digest{2}, GraceUntil: 150})
	assert.Equal(t, projections.Grace{Digest: events.Digest{1}, Until: 150}, k.Grace)
	evolve(&events.Rotated{Digest: events.Digest{3}, GraceUntil: 160})
	assert.Equal(t, projections.Grace{Digest: events.Digest{2}, Until: 160}, k.Grace, "the secret before that no longer opens")
	evolve(&events.GraceEnded{GraceUntil: 160})
	assert.Zero(t, k.Grace)
	evolve(&events.Rotated{Digest: events.Digest{4}})
	assert.Zero(t, k.Grace)

	evolve(&events.Deleted{})
	assert.False(t, k.Exists())
	assert.Zero(t, k)
}

func TestMisfits(t *testing.T) {
	living := projections.Key{ID: events.KeyID{7}, Project: "acme", Rev: 3, Deployments: []events.DeploymentID{{1}}}
	for what, e := range map[string]*events.Event{
		"a revision left out": event(5, &events.Disabled{}),
		"a revision again":    event(3, &events.Disabled{}),
		"created twice":       event(4, &events.Created{}),
		"another key's":       {Project: "acme", Subject: [16]byte{8}, Rev: 4, Fact: &events.Disabled{}},
		"another project's":   {Project: "evil", Subject: [16]byte{7}, Rev: 4, Fact: &events.Disabled{}},
		"a deployment's":      event(4, &events.DeploymentRemoved{}),
	} {
		k := living
		require.ErrorIs(t, k.Evolve(e), projections.ErrMisfit, what)
	}
	var none projections.Key
	require.ErrorIs(t, none.Evolve(event(1, &events.Disabled{})), projections.ErrMisfit)

	var d projections.Deployment
	require.ErrorIs(t, d.Evolve(event(1, &events.DeploymentRemoved{}), 1, 1), projections.ErrMisfit)
	require.NoError(t, d.Evolve(event(1, &events.DeploymentRegistered{Name: "llama"}), 1, 1))
	require.ErrorIs(t, d.Evolve(event(2, &events.DeploymentRegistered{}), 1, 1), projections.ErrMisfit)
	require.ErrorIs(t, d.Evolve(event(2, &events.Disabled{}), 1, 1), projections.ErrMisfit)
	require.NoError(t, d.Evolve(event(2, &events.DeploymentRemoved{}), 1, 1))
	assert.Zero(t, d)
}

func TestCharterEvolves(t *testing.T) {
	var c projections.Charter
	evolve := func(seq events.Seq, f events.Fact) {
		t.Helper()
		require.NoError(t, c.Evolve(&events.Event{Subject: [16]byte{9}, Fact: f}, seq, 5))
	}
	require.ErrorIs(t, c.Evolve(&events.Event{Fact: &events.TermOpened{Term: 1}}, 1, 0), projections.ErrMisfit)
	evolve(1, &events.LogOpened{Incarnation: events.Incarnation{1}, SigningKey: events.PublicKey{1}})
	evolve(2, &events.SettingChanged{Name: "lease", Value: "10m"})
	evolve(3, &events.VerifierRegistered{Verifier: "edge", Mode: events.ModeDeny})
	was := c
	evolve(4, &events.SettingChanged{Name: "lease", Value: "5m"})
	evolve(5, &events.VerifierLeft{Why: "goodbye"})
	evolve(6, &events.SigningKeyAdded{SigningKey: events.PublicKey{2}})
	evolve(7, &events.SigningKeyRetired{SigningKey: events.PublicKey{1}})
	evolve(8, &events.SchemaRaised{Schema: 2})
	evolve(9, &events.TermOpened{Term: 4})
	assert.Equal(t, "10m", was.Settings["lease"], "copies stay as they were")
	assert.Len(t, was.Members, 1)
	assert.Equal(t, projections.Charter{
		Incarnation: events.Incarnation{1}, Term: 4, Schema: 2, SigningKeys: []events.PublicKey{{2}},
		Settings: map[string]string{"lease": "5m"}, Lease: projections.Lease{Length: 5 * time.Minute, Before: 10 * time.Minute, ChangedAt: 5}, Members: map[events.InstanceID]projections.Member{}, ChangedAt: 9,
	}, c)
	evolve(10, &events.Created{})
	assert.Equal(t, events.Seq(9), c.ChangedAt)
	evolve(11, &events.Rotated{Foreign: true})
	assert.True(t, c.ForeignKeys)
	assert.Equal(t, events.Seq(11), c.ChangedAt)
	require.ErrorIs(t, c.Evolve(&events.Event{Fact: &events.TermOpened{Term: 4}}, 12, 0), projections.ErrMisfit)
	require.ErrorIs(t, c.Evolve(&events.Event{Fact: &events.LogOpened{}}, 12, 0), projections.ErrMisfit)
	assert.True(t, slices.Equal(c.SigningKeys, []events.PublicKey{{2}}))
	for _, lease := range []string{"", "soon", "1s", "25h", "-10m"} {
		require.ErrorIs(t, c.Evolve(&events.Event{Fact: &events.SettingChanged{Name: "lease", Value: lease}}, 12, 0), projections.ErrMisfit)
	}
}

// A lease that was shortened is in use for as long as it was, and by a clock that is not known for ever.
func TestTheLongestLease(t *testing.T) {
	var c projections.Charter
	minute := events.Instant(time.Minute.Milliseconds())
	set := func(value string, at events.Instant) {
		t.Helper()
		require.NoError(t, c.Evolve(&events.Event{Fact: &events.SettingChanged{Name: projections.LeaseSetting, Value: value}}, 2, at))
	}
	require.NoError(t, c.Evolve(&events.Event{Fact: &events.LogOpened{}}, 1, 0))
	assert.Equal(t, projections.DefaultLease, c.Lease.Longest(1))
	set("24h", 1000*minute)
	assert.Equal(t, 24*time.Hour, c.Lease.Longest(0))
	set("1m", 2000*minute)
	set("2m", 2001*minute)
	assert.Equal(t, 24*time.Hour, c.Lease.Longest(0))
	assert.Equal(t, 24*time.Hour, c.Lease.Longest((2001+24*60+60)*minute), "the commit may have been durable only some time after it was dated")
	assert.Equal(t, 2*time.Minute, c.Lease.Longest((2001+24*60+60+20)*minute))
}
