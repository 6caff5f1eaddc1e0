package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
)

// The log's key is changed under a verifier that goes on answering. Then it is killed and started again as it was, a new one pins
// the new key, and one that pins what was retired answers nobody.
func TestTheSigningKeyIsChangedUnderARunningFleet(t *testing.T) {
	f := startFleetOfProcesses(t)
	v := f.startVerifier("ams-1")
	key := f.newKey("demo-key", time.Time{})
	f.becomes(http.StatusOK, v, key)
	require.NoError(t, f.client().Do(t.Context(), registry.FleetLease, registry.Request{Lease: "30s"}, nil))
	require.Eventually(t, func() bool { return f.fleet().Verifiers[0].LeaseLeftMs > 20_000 }, 30*time.Second, 50*time.Millisecond)
	say := func(args ...string) (said string, status int) {
		stdout, stderr, status := client(t, f.url, "", append([]string{"fleet", "signing-key"}, args...)...)
		return stdout + stderr, status
	}
	next, old := filepath.Join(f.dir, "next.pem"), f.key
	said, status := say("add", next)
	require.Equal(t, statusDone, status)
	require.Contains(t, said, "is confirmed")
	private, err := readSigningKey(next)
	require.NoError(t, err)
	is := publicHalf(private).String()
	said, status = say("retire", old)
	require.Equal(t, statusRefused, status)
	require.Contains(t, said, "start every registry with the new key first")

	for _, hub := range []*serverProcess{f.standby, f.registry} {
		require.NoError(t, hub.cmd.Process.Signal(syscall.SIGTERM))
		<-hub.ended
	}
	f.startRegistry("hub-1", "--signing-key", next)
	require.Eventually(t, func() bool { return f.fleet().SignedBy == is }, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, http.StatusOK, f.check(v, key), "its lease goes on")
	said, status = say("retire", old)
	require.Equal(t, statusDone, status)
	require.Contains(t, said, "is confirmed")
	require.Equal(t, []string{is}, f.fleet().LogKeys)
	said, status = say("retire", is)
	require.Equal(t, statusRefused, status)
	require.Contains(t, said, "only signing key")

	require.Eventually(t, func() bool { return f.fleet().Verifiers[0].SilentMs != nil }, 30*time.Second, 50*time.Millisecond, "it renews")
	require.NoError(t, v.cmd.Process.Kill())
	<-v.ended
	f.becomes(http.StatusOK, f.startVerifier("ams-1"), key) // still with the old --log-key: it has learnt better
	stranger := f.startVerifier("fra-1")
	require.Eventually(t, func() bool { return strings.Contains(stranger.said.String(), "start it with the new one") }, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, f.check(stranger, key))
	f.key = is
	f.becomes(http.StatusOK, f.startVerifier("sin-1"), key)
}
