package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/keyindex"
	"github.com/keyfleet/keyfleet/projections/snapshot"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// A PoP's copy of the log holds the end of it only. Whoever needs what was before begins from a snapshot, which the hub has: a
// verifier that was away for too long as well as one without an index.
func TestAPoPThatHoldsTheEndOfTheLogOnly(t *testing.T) {
	d := deploy(t)
	d.startRegistry()
	alice := natsapi.NewClient(d.as("admins/acme.alice", d.hub), "acme", "alice")
	require.NoError(t, alice.Do(t.Context(), registry.DeploymentRegister, registry.Request{Name: "llama"}, nil))
	ams := d.startSite("ams", "--keep", fmt.Sprint(leastKept))
	args := d.verifierArgs("ams", ams)
	away := startServer(t, args...)
	var key registry.KeyReply
	request := registry.Request{Name: "night", Deployments: &[]string{"llama"}, Wait: registry.WaitConfirmed}
	require.NoError(t, alice.Do(t.Context(), registry.KeyCreate, request, &key))
	away.becomes(t, http.StatusOK, key.Secret)
	away.stop(t)

	lengthen(t, alice, 3*leastKept)
	require.Eventually(t, func() bool {
		_, said, _ := client(t, ams.ClientURL(), "", "audit", "log", "--mirror", "--creds", d.creds("sites/ams/verifier"))
		return strings.Contains(said, "--keep 0")
	}, 30*time.Second, 100*time.Millisecond)
	back := startServer(t, args...)
	require.Eventually(t, func() bool { return strings.Contains(back.said.String(), "no snapshot could be used") }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, back.check(t, key.Secret), "what it cannot read may be a revocation")
	d.makeSnapshot()
	back.becomes(t, http.StatusOK, key.Secret)
	d.startVerifier("ams", ams).becomes(t, http.StatusOK, key.Secret)

	d.startVerifier("fra", d.startSite("fra", "--keep", fmt.Sprint(leastKept))).becomes(t, http.StatusOK, key.Secret)
	js, err := jetstream.New(d.as("hub/setup", d.hub))
	require.NoError(t, err)
	feed, err := js.PushConsumer(t.Context(), eventlog.StreamName, "fra")
	require.NoError(t, err)
	require.Greater(t, feed.CachedInfo().Config.OptStartSeq, uint64(1), "a PoP that comes late is not sent all of the log")
}

// lengthen makes the log at least so many bytes longer, by keys with the longest descriptions.
func lengthen(t *testing.T, by *natsapi.Client, size int) {
	description := strings.Repeat("\U0001f511", events.MaxDescriptionRunes)
	names := make(chan string)
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			for name := range names {
				assert.NoError(t, by.Do(t.Context(), registry.KeyCreate, registry.Request{Name: name, Description: &description}, nil))
			}
		})
	}
	for i := range size / len(description) {
		names <- fmt.Sprintf("filler-%d", i)
	}
	close(names)
	callers.Wait()
}

// makeSnapshot does what the registry does once the log is long enough.
func (d *deployed) makeSnapshot() {
	d.Helper()
	nc := d.as("hub/registry", d.hub)
	log, err := eventlog.Open(d.Context(), nc, eventlog.Options{ReadOnly: true})
	require.NoError(d, err)
	last, err := log.Last(d.Context())
	require.NoError(d, err)
	index, err := keyindex.Open(filepath.Join(d.TempDir(), "index"), keyindex.Options{})
	require.NoError(d, err)
	following, end := context.WithCancel(d.Context())
	err = projections.Follow(following, log, index, projections.FollowObserver{
		Applied: func(at events.Position) {
			if at.Seq >= last.Commit.Last() {
				end()
			}
		},
		Stalled: func(err error) { assert.NoError(d, err) },
	})
	require.ErrorIs(d, err, context.Canceled)
	objects, err := eventlog.KeepSnapshots(d.Context(), nc, 1)
	require.NoError(d, err)
	signing, err := readSigningKey(filepath.Join(d.dir, "signing.pem"))
	require.NoError(d, err)
	_, err = snapshot.Build(d.Context(), index, objects, signing)
	require.NoError(d, err)
	require.NoError(d, index.Close())
}
