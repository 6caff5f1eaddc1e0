package registry_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/registry"
)

func TestExpiringSoon(t *testing.T) {
	w := newWorld() // 2027-01-01
	h := startHub(t, w, t.TempDir())
	for name, expires := range map[string]string{
		"past": "2026-12-31", "first": "2027-01-01T00:00:10Z", "last": "2027-01-31", "later": "2027-01-31T00:00:01Z", "ever": "never",
	} {
		key := h.must(t, registry.KeyCreate, registry.Request{Name: "key-" + name, ExpiresAt: &expires})
		assert.Equal(t, name == "first" || name == "last", key.ExpiresSoon, name)
	}
	requireSoon := func(want int) {
		t.Helper()
		n, err := h.ExpiringSoon()
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	requireSoon(2)
	w.clock.Advance(time.Second) // key-later is within 30 days now
	requireSoon(3)
	w.clock.Advance(9 * time.Second)
	requireSoon(2)
}

// TestTrail reads a project's past in pages, and nothing of another's.
func TestTrail(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	for _, name := range []string{"key-one", "key-two", "key-three"} {
		h.must(t, registry.KeyCreate, registry.Request{Name: name})
	}
	_, err := h.Do(t.Context(), registry.Command{Project: "other", Actor: "bob", Verb: registry.KeyCreate, Request: registry.Request{Name: "theirs"}})
	require.NoError(t, err)
	var told []string
	match := func(e *history.Entry) bool { return e.Name != "key-two" }
	for before, more := uint64(0), true; more; {
		var entries []history.Entry
		entries, before, err = h.Trail(t.Context(), "acme", before, 1, match)
		require.NoError(t, err)
		for i := range entries {
			told = append(told, string(entries[i].Type)+" "+entries[i].Name)
		}
		more = before > 0
	}
	require.Equal(t, []string{"created key-three", "created key-one", "project_opened "}, told)
}
