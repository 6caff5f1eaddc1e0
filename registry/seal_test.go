package registry_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/sealing"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
)

var (
	firstSealingKey = strings.Repeat("0a", 32)
	nextSealingKey  = strings.Repeat("0b", 32)
)

// sealingHub is one whose catalog has the sealing keys.
func sealingHub(t *testing.T, w world, dir string, keys ...string) *hub {
	t.Helper()
	parsed, err := sealing.ParseKeys([]byte(strings.Join(keys, "\n")))
	require.NoError(t, err)
	return startHub(t, w, dir, with(sealing.NewRing(parsed)))
}

func with(ring *sealing.Ring) func(*registry.Options, *catalog.Options) {
	return func(_ *registry.Options, o *catalog.Options) { o.Ring = ring }
}

// bodies are all commits of the log, as a PoP has them.
func bodies(t *testing.T, w world) (text string, entries []events.Entry) {
	t.Helper()
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	for seq := uint64(1); seq <= last.StreamSeq; seq++ {
		e, err := w.log.Read(t.Context(), seq)
		require.NoError(t, err)
		body, err := e.Commit.Encode()
		require.NoError(t, err)
		text += string(body)
		entries = append(entries, e)
	}
	return text, entries
}

func TestWhatOnlyAdminsNeedIsSealed(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := sealingHub(t, w, dir, firstSealingKey)
	hear[registry.ClockTrusted](t, h)
	description, soon := "for-the-merger", "2027-01-01T00:00:01Z"
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "project-x", Description: &description, CommandID: "order-4711", ExpiresAt: &soon})
	h.clock.Advance(2e9)
	for expired := 0; expired < 1; {
		expired += hear[registry.Committed](t, h).Expired
	}
	h.must(t, registry.KeyDisable, registry.Request{Key: "project-x"})
	text, entries := bodies(t, w)
	for _, secret := range []string{"project-x", "for-the-merger", "alice", "order-4711", made.Hint} {
		require.NotContains(t, text, secret)
	}
	require.Contains(t, text, "acme", "projects are not hidden from PoPs")
	require.Equal(t, 1, strings.Count(typesOf(entries), string(events.TypeProjectOpened)), "one data key: %s", typesOf(entries))
	h.stop()

	for name, at := range map[string]string{"its catalog": dir, "an empty one": t.TempDir()} {
		h = sealingHub(t, w, at, firstSealingKey)
		page, err := h.do(t, registry.KeyHistory, registry.Request{Key: made.ID})
		require.NoError(t, err, name)
		created := page.(*registry.HistoryPage).Results
		require.Equal(t, "alice", created[len(created)-1].Actor)
		again := h.must(t, registry.KeyCreate, registry.Request{Name: "project-x", Description: &description, CommandID: "order-4711", ExpiresAt: &soon})
		require.True(t, again.Replayed, "command ids are known from what is sealed")
		require.Equal(t, "for-the-merger", *again.Description)
		h.stop()
	}
}

func typesOf(entries []events.Entry) (types string) {
	for _, e := range entries {
		for _, said := range e.Commit.Events() {
			types += string(said.Fact.Type()) + " "
		}
	}
	return types
}

// The newest key wraps from then on; the ones before it still open what they sealed.
func TestSealingKeysAreRotated(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := sealingHub(t, w, dir, firstSealingKey)
	h.must(t, registry.KeyCreate, registry.Request{Name: "before"})
	h.stop()
	h = sealingHub(t, w, dir, nextSealingKey, firstSealingKey)
	h.must(t, registry.KeyCreate, registry.Request{Name: "after"})
	h.must(t, registry.KeyDisable, registry.Request{Key: "before"})
	h.stop()
	_, entries := bodies(t, w)
	require.Equal(t, 2, strings.Count(typesOf(entries), string(events.TypeProjectOpened)), typesOf(entries))

	h = sealingHub(t, w, t.TempDir(), nextSealingKey, firstSealingKey)
	page, err := h.do(t, registry.KeyList, registry.Request{})
	require.NoError(t, err)
	require.Len(t, page.(*registry.KeyPage).Results, 2)
	require.Len(t, projectsOf(t, h), 1)
	h.stop()
}

func projectsOf(t *testing.T, h *hub) []catalog.Project {
	t.Helper()
	r := h.catalog.Read()
	all, err := r.Projects()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return all
}

// A log that is plain so far is sealed from when there is a key.
func TestALogIsSealedFromNowOn(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := startHub(t, w, dir)
	h.must(t, registry.KeyCreate, registry.Request{Name: "plain-key"})
	h.stop()
	h = sealingHub(t, w, dir, firstSealingKey)
	name := "sealed-name"
	h.must(t, registry.KeyEdit, registry.Request{Key: "plain-key", Name: name})
	_, err := h.Do(t.Context(), registry.Command{Actor: "alice", Verb: registry.FleetLease, Request: registry.Request{Lease: "5m"}})
	require.NoError(t, err)
	require.Len(t, projectsOf(t, h), 1, "the events without a project are none")
	text, _ := bodies(t, w)
	require.Contains(t, text, "plain-key")
	require.NotContains(t, text, "sealed-name")
	require.Equal(t, 2, strings.Count(text, "alice"), "the opening of the project, and the key: not the edit, nor the lease")
	h.stop()
}

// taken is an election that another has won.
type taken struct{}

func (taken) Win(ctx context.Context) (registry.Leadership, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Without the key nothing is led, changed or lost.
func TestARegistryWithoutTheSealingKeyDoesNotLead(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := sealingHub(t, w, dir, firstSealingKey)
	h.must(t, registry.KeyCreate, registry.Request{Name: "kept"})
	standby := openHub(t, w, t.TempDir())
	standby.Service = registry.NewService(standby.hooks, standby.catalog, taken{}, standby.opts)
	require.ErrorContains(t, standby.Run(t.Context()), "--sealing-key", "while another leads")
	standby.stop()
	h.stop()
	before, _ := bodies(t, w)
	other, err := sealing.ParseKeys([]byte(nextSealingKey))
	require.NoError(t, err)
	for name, without := range map[string]*sealing.Ring{"none": nil, "another": sealing.NewRing(other)} {
		_, err := catalog.Open(dir, catalog.Options{Ring: without})
		require.ErrorIs(t, err, events.ErrSealed, name)
		h := openHub(t, w, t.TempDir(), with(without))
		require.ErrorContains(t, h.Run(t.Context()), "--sealing-key", name)
		h.stop()
	}
	after, _ := bodies(t, w)
	require.Equal(t, before, after)
}
