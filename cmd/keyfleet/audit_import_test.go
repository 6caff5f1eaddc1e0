package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
)

// Everything is gone but an archive. Keys open what they opened, revoked ones stay so, and a command that took effect before takes
// none again.
func TestARegistryComesBackFromAnArchive(t *testing.T) {
	dir := t.TempDir()
	dev := startDev(t, filepath.Join(dir, "keyfleet-data"))
	key, status := dev.keyfleet(t, "", "keys", "create", "kept-key", "--deployment", "echo-model", "--description", "is kept", "--command-id", "once")
	require.Equal(t, statusDone, status)
	for _, command := range []string{
		"keys create dead-key --deployment echo-model", "keys delete dead-key",
		"keys create off-key --expires 2999-01-31", "keys disable off-key", "deployments register llama", "keys attach kept-key llama",
	} {
		_, status := dev.keyfleet(t, "", strings.Fields(command)...)
		require.Equal(t, statusDone, status, command)
	}
	before, _ := dev.keyfleet(t, "", "keys", "list", "--json")
	archive := filepath.Join(dir, "log.kfa")
	_, status = dev.keyfleet(t, "", "audit", "export", archive, "--signing-key", filepath.Join(dev.data, "signing.pem"))
	require.Equal(t, statusDone, status)
	require.Zero(t, dev.stop())

	server := eventlogtest.StartServer(t)
	url := server.ClientURL()
	system := strings.Replace(url, "nats://", "nats://operator:operator@", 1)
	pem := filepath.Join(dir, "new.pem")
	stdout, _, status := client(t, url, "", "audit", "import", archive, "--signing-key", pem, "--json")
	require.Equal(t, statusDone, status)
	var done imported
	require.NoError(t, json.Unmarshal([]byte(stdout), &done))
	require.NotEqual(t, done.From, done.Incarnation)
	_, stderr, status := client(t, url, "", "audit", "import", archive, "--signing-key", pem)
	require.Equal(t, statusRefused, status)
	require.Contains(t, stderr, "there is a log on the server already")

	startServer(t, "registry", "--http", "127.0.0.1:0", "--signing-key", pem, "--nats", url, "--system-nats", system, "--name", "hub", "--data", filepath.Join(dir, "registry"), "--admin", "127.0.0.1:0")
	v := startServer(t, "verifier", "--log-key", done.SigningKey.String(), "--nats", url, "--data", filepath.Join(dir, "verifier"), "--name", "edge",
		"--check", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	after, _, _ := client(t, url, "", "keys", "list", "--project", "demo", "--json")
	require.Equal(t, withoutSeqs(t, before), withoutSeqs(t, after), "names, dates, hints and all")
	edge := devFile{Check: v.addresses["check"]}
	require.NoError(t, edge.caughtUp(t.Context(), uint64(done.Events)))
	for deployment, want := range map[string]int{"llama": statusDone, "echo-model": statusDone, "elsewhere": statusRefused} {
		_, _, status = client(t, url, strings.TrimSpace(key), "check", "--deployment", deployment, "--project", "demo", "--check", v.addresses["check"])
		require.Equal(t, want, status, deployment)
	}
	_, stderr, status = client(t, url, "", "keys", "create", "other-key", "--command-id", "once", "--project", "demo", "--actor", "dev")
	require.Equal(t, statusRefused, status, "the command's id had its effect before")
	require.Contains(t, stderr, "once")
	stdout, _, _ = client(t, url, "", "audit", "log", "--type", "log_opened")
	require.Contains(t, stdout, "imported from "+done.From.String())
	_, _, status = client(t, url, "", "audit", "verify")
	require.Equal(t, statusDone, status)
}

func withoutSeqs(t *testing.T, page string) registry.KeyPage {
	t.Helper()
	p := withoutSeq(t, page)
	for i := range p.Results {
		p.Results[i].Seq = 0
	}
	return p
}
