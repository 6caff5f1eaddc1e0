package registry_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
)

// While storage is nearly full nothing is created, and all that takes something away goes on.
func TestNothingIsCreatedWhileStorageIsFull(t *testing.T) {
	var full atomic.Bool
	h := startHub(t, newWorld(), t.TempDir(), func(o *registry.Options, _ *catalog.Options) {
		o.Full = func() string {
			if full.Load() {
				return "the disk is 91% full"
			}
			return ""
		}
	})
	at, later, sooner, past, now := "2027-01-01T00:00:01Z", "2027-03-01", "2027-02-01", "2020-01-01", "0"
	hear[registry.ClockTrusted](t, h)
	_, err := h.do(t, registry.DeploymentRegister, registry.Request{Name: "llama"})
	require.NoError(t, err)
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "kept", CommandID: "c1", Deployments: &[]string{"llama"}, ExpiresAt: &later})
	h.must(t, registry.KeyCreate, registry.Request{Name: "ends", ExpiresAt: &at})

	full.Store(true)
	for verb, r := range map[registry.Verb]registry.Request{
		registry.KeyCreate: {Name: "more"}, registry.DeploymentRegister: {Name: "more"},
	} {
		_, err := h.do(t, verb, r)
		requireRefusal(t, registry.Unavailable, err)
		require.ErrorContains(t, err, "the disk is 91% full")
		require.ErrorContains(t, err, "operator")
	}
	_, err = h.do(t, registry.KeyCreate, registry.Request{Name: "kept"})
	requireRefusal(t, registry.NameTaken, err)
	again := h.must(t, registry.KeyCreate, registry.Request{Name: "kept", CommandID: "c1", Deployments: &[]string{"llama"}, ExpiresAt: &later})
	require.Equal(t, made.ID, again.ID, "what was created is told again")
	h.must(t, registry.KeyExpire, registry.Request{Key: "kept", ExpiresAt: &sooner})
	h.must(t, registry.KeyDetach, registry.Request{Key: "kept", Deployments: &[]string{"llama"}})
	h.must(t, registry.KeyDisable, registry.Request{Key: "kept"})
	h.must(t, registry.KeyRotate, registry.Request{Key: "kept", Grace: &now})
	h.must(t, registry.KeyExpire, registry.Request{Key: "kept", ExpiresAt: &past})
	h.must(t, registry.KeyDelete, registry.Request{Key: "kept"})
	h.clock.Advance(2 * time.Second)
	for expired := 0; expired < 1; {
		expired += hear[registry.Committed](t, h).Expired
	}

	full.Store(false)
	h.must(t, registry.KeyCreate, registry.Request{Name: "more"})
}
