package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
)

// What a PoP may hold, and so what may be stolen, names nobody: its verifier's directory, and of NATS everything that could be mirrored.
func TestAStolenPoPNamesNobody(t *testing.T) {
	disk := t.TempDir()
	f := startFleetOfProcesses(t, func(o *server.Options) { o.StoreDir = disk })
	stopServers(t, f.registry, f.standby)
	keyFile := filepath.Join(f.dir, "sealing.key")
	require.NoError(t, os.WriteFile(keyFile, []byte(strings.Repeat("5a", 32)+"\n"), 0o600))
	f.registry = f.startRegistry("hub-1", "--sealing-key", keyFile)
	v := f.startVerifier("edge-1")
	_, _, status := client(t, f.url, "", "deployments", "register", "open-model", "--project", "acme")
	require.Equal(t, statusDone, status)
	made := f.create("merger-key", "--description", "for the merger", "--deployment", "open-model")
	_, _, status = client(t, f.url, "", "keys", "edit", "merger-key", "--name", "merged-key", "--project", "acme", "--actor", "carol", "--wait", "confirmed")
	require.Equal(t, statusDone, status)
	_, _, status = client(t, f.url, "", "fleet", "lease", "3s", "--actor", "carol")
	require.Equal(t, statusDone, status)
	require.Eventually(t, func() bool {
		_, _, status := client(t, f.url, made.Secret, "check", "--deployment", "open-model", "--project", "acme", "--check", v.addresses["check"])
		return status == statusDone
	}, 30*time.Second, 50*time.Millisecond, "it opens what it should")
	stopServers(t, v)

	stolen := held(t, filepath.Join(f.dir, "edge-1"), f.run, disk)
	require.Contains(t, stolen, "open-model", "what is searched is what the PoP knows")
	for _, name := range []string{"merger-key", "merged-key", "for the merger", "carol", made.Hint[:7], made.Secret} {
		require.False(t, strings.Contains(stolen, name), "%q is on the disk", name)
	}

	stdout, stderr, _ := client(t, f.url, "", "audit", "log", "--type", "created")
	require.NotContains(t, stdout, "merger-key")
	require.Contains(t, stdout, "(sealed)")
	require.Contains(t, stderr, "--sealing-key opens them")
	stdout, _, _ = client(t, f.url, "", "audit", "log", "--type", "created", "--sealing-key", keyFile)
	require.Contains(t, stdout, "merger-key")
	require.Contains(t, stdout, "carol")
	stdout, _, _ = client(t, f.url, "", "audit", "state", "--sealing-key", keyFile)
	require.Contains(t, stdout, "merged-key")
	_, stderr, _ = client(t, f.url, "", "audit", "state")
	require.Contains(t, stderr, "names are sealed")
	stdout, _, _ = client(t, f.url, "", "keys", "list", "--project", "acme")
	require.Contains(t, stdout, "merged-key")
}

// The trap is a server that takes another key for none, and begins anew.
func TestARegistryWithAnotherSealingKeyRefuses(t *testing.T) {
	f := startFleetOfProcesses(t)
	stopServers(t, f.registry, f.standby)
	right, wrong := filepath.Join(f.dir, "sealing.key"), filepath.Join(f.dir, "other.key")
	require.NoError(t, os.WriteFile(right, []byte(strings.Repeat("5a", 32)), 0o600))
	require.NoError(t, os.WriteFile(wrong, []byte(strings.Repeat("a5", 32)), 0o600))
	f.registry = f.startRegistry("hub-1", "--sealing-key", right)
	f.create("kept-key")
	stopServers(t, f.registry)
	for _, args := range [][]string{nil, {"--sealing-key", wrong}} {
		_, stderr, status := client(t, f.url, "", append([]string{
			"registry", "--signing-key", filepath.Join(f.dir, "signing.pem"), "--system-nats", f.system, "--name", "hub-1", "--data", filepath.Join(f.dir, "hub-1"),
			"--admin", "127.0.0.1:0", "--http", "127.0.0.1:0",
		}, args...)...)
		require.Equal(t, statusUnavailable, status)
		require.Contains(t, stderr, "--sealing-key")
	}
	f.registry = f.startRegistry("hub-1", "--sealing-key", right)
	stdout, _, _ := client(t, f.url, "", "keys", "list", "--project", "acme")
	require.Contains(t, stdout, "kept-key")
	status, _ := get(t, http.MethodGet, f.registry.addresses["admin"]+"/readyz", "", "")
	require.Equal(t, http.StatusOK, status)
}

// An archive of a sealed log is sealed, and opens to a registry that has the old one's sealing key.
func TestASealedLogIsBroughtBack(t *testing.T) {
	f := startFleetOfProcesses(t)
	stopServers(t, f.registry, f.standby)
	keyFile, archive := filepath.Join(f.dir, "sealing.key"), filepath.Join(f.dir, "log.kfa")
	require.NoError(t, os.WriteFile(keyFile, []byte(strings.Repeat("5a", 32)), 0o600))
	f.registry = f.startRegistry("hub-1", "--sealing-key", keyFile)
	f.create("kept-key")
	_, _, status := client(t, f.url, "", "audit", "export", archive, "--signing-key", filepath.Join(f.dir, "signing.pem"))
	require.Equal(t, statusDone, status)

	fresh := &fleetOfProcesses{T: t, nats: eventlogtest.StartServer(t), dir: t.TempDir()}
	fresh.url = fresh.nats.ClientURL()
	fresh.system = strings.Replace(fresh.url, "nats://", "nats://operator:operator@", 1)
	_, _, status = client(t, fresh.url, "", "audit", "import", archive, "--log-key", f.key, "--signing-key", filepath.Join(fresh.dir, "signing.pem"))
	require.Equal(t, statusDone, status)
	stdout, _, _ := client(t, fresh.url, "", "audit", "log", "--type", "created")
	require.NotContains(t, stdout, "kept-key")
	fresh.startRegistry("hub-1", "--sealing-key", keyFile)
	stdout, _, _ = client(t, fresh.url, "", "keys", "list", "--project", "acme")
	require.Contains(t, stdout, "kept-key")
}

func (f *fleetOfProcesses) create(name string, args ...string) (made registry.KeyReply) {
	f.Helper()
	stdout, _, status := client(f.T, f.url, "", append([]string{"keys", "create", name, "--project", "acme", "--actor", "carol", "--json"}, args...)...)
	require.Equal(f, statusDone, status)
	require.NoError(f, json.Unmarshal([]byte(stdout), &made))
	return made
}

func stopServers(t *testing.T, servers ...*serverProcess) {
	t.Helper()
	for _, s := range servers {
		require.NoError(t, s.cmd.Process.Signal(os.Interrupt))
		<-s.ended
	}
}

// held is everything in the files of some directories.
func held(t *testing.T, dirs ...string) string {
	t.Helper()
	var all bytes.Buffer
	for _, dir := range dirs {
		require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		}))
	}
	return all.String()
}
