package projections_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

func TestAllow(t *testing.T) {
	const noon = events.Instant(1_800_000_000_000)
	dep, gone := events.DeploymentID{1}, events.DeploymentID{2}
	current, before, other := events.Digest{1}, events.Digest{2}, events.Digest{3}
	key := func(change func(*projections.Key)) projections.Key {
		k := projections.Key{
			ID: events.KeyID{7}, Project: "acme", Rev: 3, Digest: current,
			Grace:       projections.Grace{Digest: before, Until: noon},
			Deployments: []events.DeploymentID{dep}, ExpiresAt: noon,
		}
		change(&k)
		return k
	}
	as := func(*projections.Key) {}
	never := func(k *projections.Key) { k.ExpiresAt = events.Never }
	cases := []struct {
		what       string
		key        projections.Key
		presented  events.Digest
		deployment events.DeploymentID
		now        events.Instant
		want       projections.Reason
	}{
		{"alive until its instant", key(as), current, dep, noon - 1, projections.Allowed},
		{"dead at its instant", key(as), current, dep, noon, projections.KeyExpired},
		{"never expires", key(never), current, dep, events.Never - 1, projections.Allowed},
		{"an expiry that was never set", key(func(k *projections.Key) { k.ExpiresAt = 0 }), current, dep, noon, projections.KeyExpired},
		{"recorded as expired, the clock stepped back", key(func(k *projections.Key) { k.Expired = true }), current, dep, noon - 1, projections.KeyExpired},
		{"disabled", key(func(k *projections.Key) { k.Disabled = true }), current, dep, noon - 1, projections.KeyDisabled},
		{"another deployment", key(as), current, gone, noon - 1, projections.NotAttached},
		{"no deployment of that name", key(as), current, events.DeploymentID{}, noon - 1, projections.NoDeployment},
		{"expired is not told from unknown deployments", key(as), current, events.DeploymentID{}, noon, projections.KeyExpired},
		{"the secret before, in its grace", key(never), before, dep, noon - 1, projections.Allowed},
		{"the secret before, its grace over", key(never), before, dep, noon, projections.RotatedOut},
		{"another secret", key(never), other, dep, noon - 1, projections.Unknown},
		{"no digest at all, no grace", key(func(k *projections.Key) { k.Grace = projections.Grace{} }), events.Digest{}, dep, noon - 1, projections.Unknown},
		{"no key", projections.Key{}, events.Digest{}, dep, 0, projections.Unknown},
	}
	for _, c := range cases {
		assert.Equal(t, c.want, projections.Allow(&c.key, c.presented, c.deployment, c.now), c.what)
	}
}

func TestZeroValuesDeny(t *testing.T) {
	assert.False(t, projections.Decision{}.Allowed())
	assert.Equal(t, projections.Unavailable, projections.Reason(0).Class())
	assert.Equal(t, projections.Unavailable, projections.Reason(250).Class())
	for _, r := range projections.Reasons() {
		assert.Equal(t, r == projections.Allowed, r.Class() == projections.Pass, r)
	}
}
