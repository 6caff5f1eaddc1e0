package main

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
)

// A PoP that hears the registry, but whose copy of the log gets nothing new, is seen to lag, and nothing is confirmed
// meanwhile. Admitted again, it has everything.
func TestAMirrorThatIsHeldBackIsSeen(t *testing.T) {
	d := deploy(t)
	hub := d.startRegistry()
	d.startVerifier("ams", d.startSite("ams"))
	alice := d.creds("admins/acme.alice")
	create := func(name, patience string) int {
		_, _, status := d.ask("keys", "create", name, "--project", "acme", "--creds", alice, "--wait", "confirmed", "--wait-timeout", patience)
		return status
	}
	lag := func() string {
		_, metrics := get(t, http.MethodGet, hub.addresses["admin"]+"/metrics", "", "")
		found := regexp.MustCompile(`keyfleet_fleet_verifier_lag_events{[^}]*"ams"[^}]*} (\d+)`).FindStringSubmatch(metrics)
		if found == nil {
			return "not told"
		}
		return found[1]
	}
	require.Equal(t, statusDone, create("first", "30s"))
	require.Eventually(t, func() bool { return lag() == "0" }, 30*time.Second, 50*time.Millisecond)

	js, err := jetstream.New(d.as("hub/setup", d.hub))
	require.NoError(t, err)
	require.NoError(t, js.DeleteConsumer(t.Context(), eventlog.StreamName, "ams"))
	require.Equal(t, statusUnavailable, create("second", "1s"), "it is recorded, and not confirmed")
	require.Eventually(t, func() bool { return lag() == "1" }, 30*time.Second, 50*time.Millisecond)

	_, _, status := d.ask("deploy", "admit", "ams", "--creds", d.creds("hub/setup"))
	require.Equal(t, statusDone, status)
	require.Eventually(t, func() bool { return lag() == "0" }, 60*time.Second, 50*time.Millisecond)
	require.Equal(t, statusDone, create("third", "30s"))
}
