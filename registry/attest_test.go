package registry_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

// A registry and a NATS server on one machine have one clock, and agree when it is wrong. The verifiers are asked before
// anything is recorded by it.
func TestAClockThatOnlyTheVerifiersContradict(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := startHub(t, w, dir)
	hear[registry.ClockTrusted](t, h)
	a := h.edge(t, "fra-1", events.ModeDeny)
	require.Equal(t, events.InstantOf(h.clock.Now()), a.renews().Attested)
	at := "2027-06-01"
	h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", ExpiresAt: &at})
	h.stop()

	w.clock.Step(w.clock.Now().AddDate(1, 0, 0)) // and with it the servers'
	h = startHub(t, w, dir)
	a.hub, a.clockAhead = h, -365*24*time.Hour
	assert.Zero(t, a.renews().Attested)
	assert.ErrorContains(t, hear[registry.ClockDoubted](t, h).Cause, "median of 1 verifiers")
	deleted := h.must(t, registry.KeyCreate, registry.Request{Name: "meanwhile"})
	h.must(t, registry.KeyDelete, registry.Request{Key: "meanwhile"})
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	assert.Equal(t, deleted.Seq+1, last.Commit.Last(), "revocations go on, and no expiry is recorded")
	assert.Contains(t, h.members(t)["fra-1"].Alarms, registry.AlarmClock)
	assert.InDelta(t, -365*24*time.Hour.Milliseconds(), *h.members(t)["fra-1"].ClockMs, 1000)

	a.clockAhead = 0 // the verifiers say so, too
	require.Equal(t, events.InstantOf(h.clock.Now()), a.renews().Attested)
	require.Eventually(t, func() bool {
		return h.must(t, registry.KeyGet, registry.Request{Key: "demo-key"}).Status == registry.Expired
	}, 20*time.Second, time.Millisecond)
	assert.NotContains(t, h.members(t)["fra-1"].Alarms, registry.AlarmClock)
}

// One voice in three does not stop expiries, two do. A verifier has one voice, however many instances.
func TestTheMedianOfTheVerifiersClocks(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	hear[registry.ClockTrusted](t, h)
	a, b, c := h.edge(t, "fra-1", events.ModeDeny), h.edge(t, "ams-1", events.ModeDeny), h.edge(t, "sin-1", events.ModeDeny)
	a.renews()
	b.renews()
	c.clockAhead = 24 * time.Hour
	c.renews()
	for range 3 {
		again := h.edge(t, "sin-1", events.ModeDeny)
		again.clockAhead = 24 * time.Hour
		again.renews()
	}
	assert.NotZero(t, a.renews().Attested)
	b.clockAhead = -time.Minute
	b.renews()
	assert.NotZero(t, a.renews().Attested, "one is a day ahead, one a minute behind")
	b.clockAhead = time.Hour
	b.renews()
	doubted := hear[registry.ClockDoubted](t, h)
	assert.ErrorContains(t, doubted.Cause, "median of 3 verifiers")
	assert.Zero(t, a.renews().Attested)
	b.clockAhead = time.Second
	b.renews()
	hear[registry.ClockTrusted](t, h)
	assert.NotZero(t, a.renews().Attested)
}
