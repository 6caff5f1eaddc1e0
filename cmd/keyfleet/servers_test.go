package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
)

// serverProcess is a registry or a verifier in a process of its own.
type serverProcess struct {
	cmd       *exec.Cmd
	addresses map[string]string // of its listeners, by flag
	said      *lockedBuffer
	ended     chan struct{}
}

var listenerInLog = regexp.MustCompile(`\b(check|admin|http|gateway|ext_authz)=(\S+:\d+)`)

// startServer returns once the server says that it runs.
func startServer(t testing.TB, args ...string) *serverProcess {
	t.Helper()
	p := &serverProcess{cmd: exec.Command("keyfleet", args...), addresses: map[string]string{}, said: &lockedBuffer{}, ended: make(chan struct{})}
	said := p.said
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	runs := make(chan bool, 1)
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(io.TeeReader(stderr, said)); lines.Scan(); {
			for _, found := range listenerInLog.FindAllStringSubmatch(lines.Text(), -1) {
				p.addresses[found[1]] = "http://" + found[2]
			}
			if strings.Contains(lines.Text(), " runs\"") {
				runs <- true
			}
		}
		runs <- false
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("keyfleet %s said:\n%s", args[0], said)
		}
	})
	require.True(t, <-runs, "keyfleet %v: %s", args, said)
	return p
}

// check asks a verifier whether the key opens acme's llama.
func (p *serverProcess) check(t *testing.T, secret string) (status int) {
	t.Helper()
	status, _ = get(t, http.MethodGet, p.addresses["check"]+"/v1/check/acme/llama", secret, "")
	return status
}

func (p *serverProcess) becomes(t *testing.T, status int, secret string) {
	t.Helper()
	require.Eventually(t, func() bool { return p.check(t, secret) == status }, 30*time.Second, 10*time.Millisecond, "%d", status)
}

// ready waits until it answers what it is there for.
func (p *serverProcess) ready(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err := http.Get(p.addresses["admin"] + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, 60*time.Second, 10*time.Millisecond)
}

// stop is a clean one.
func (p *serverProcess) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.ended
}

// client runs a command against a NATS server.
func client(t *testing.T, natsURL, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command("keyfleet", args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "KEYFLEET_NATS="+natsURL, "KEYFLEET_ACTOR=alice")
	cmd.Stdin = strings.NewReader(stdin)
	var out, err strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run()
	t.Logf("keyfleet %s: %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out.String(), err.String())
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// The parts that dev holds together, one process each, on a NATS server of somebody's own.
func TestServersOfTheirOwn(t *testing.T) {
	natsServer := eventlogtest.StartServer(t)
	url := natsServer.ClientURL()
	system := strings.Replace(url, "nats://", "nats://operator:operator@", 1)
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "signing.pem")

	_, stderr, status := client(t, url, "", "registry", "--http", "127.0.0.1:0", "--signing-key", keyFile, "--data", filepath.Join(dir, "early"), "--admin", "127.0.0.1:0", "--system-nats", system)
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, stderr, "keyfleet init", "it says what to do, and creates nothing")

	stdout, _, status := client(t, url, "", "init", "--signing-key", keyFile, "--json")
	require.Equal(t, statusDone, status)
	require.Regexp(t, `^{"incarnation":"inc_[^"]+","signing_key":"[0-9a-f]{64}","stream":"KEYFLEET_LOG"}\n$`, stdout)
	info, err := os.Stat(keyFile)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	_, stderr, status = client(t, url, "", "registry", "--http", "127.0.0.1:0", "--signing-key", keyFile, "--data", filepath.Join(dir, "blind"), "--admin", "127.0.0.1:0")
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, stderr, "system account", "nobody vouches for the servers' disks")

	startServer(t, "registry", "--http", "127.0.0.1:0", "--signing-key", keyFile, "--nats", url, "--system-nats", system, "--name", "hub-1", "--data", filepath.Join(dir, "registry"), "--admin", "127.0.0.1:0")
	logKey := regexp.MustCompile(`[0-9a-f]{64}`).FindString(stdout)
	v := startServer(t, "verifier", "--log-key", logKey, "--nats", url, "--data", filepath.Join(dir, "verifier"), "--name", "edge-1", "--pop", "ams",
		"--check", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	v.ready(t)

	_, _, status = client(t, url, "", "deployments", "register", "llama", "--project", "acme")
	require.Equal(t, statusDone, status)
	stdout, _, status = client(t, url, "", "keys", "create", "acme-key", "--deployment", "llama", "--project", "acme", "--json")
	require.Equal(t, statusDone, status)
	var key registry.KeyReply
	require.NoError(t, json.Unmarshal([]byte(stdout), &key))
	ask := []string{"check", "--deployment", "llama", "--project", "acme", "--check", v.addresses["check"], "--min-seq"}
	_, _, status = client(t, url, key.Secret, append(ask, seqText(key))...)
	require.Equal(t, statusDone, status)
	stdout, _, status = client(t, url, "", "keys", "delete", "acme-key", "--project", "acme", "--json")
	require.Equal(t, statusDone, status)
	require.NoError(t, json.Unmarshal([]byte(stdout), &key))
	_, _, status = client(t, url, key.Secret, append(ask, seqText(key))...)
	require.Equal(t, statusRefused, status)
	stdout, _, status = client(t, url, "", "fleet")
	require.Equal(t, statusDone, status)
	require.Contains(t, stdout, "edge-1")
	stdout, _, _ = client(t, url, "", "audit", "log", "--actor", "alice")
	require.Contains(t, stdout, "acme-key")
	require.Contains(t, stdout, "log_opened", "init was alice's")

	require.NoError(t, v.cmd.Process.Signal(syscall.SIGTERM))
	<-v.ended
	require.Equal(t, statusDone, v.cmd.ProcessState.ExitCode())
	stdout, _, _ = client(t, url, "", "fleet")
	require.Contains(t, stdout, "no verifier is a member", "a clean stop says goodbye")
}

func seqText(k registry.KeyReply) string {
	text, err := json.Marshal(k.Seq)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// A standby takes over with everything that was acknowledged.
func TestAStandbyRegistryTakesOver(t *testing.T) {
	natsServer := eventlogtest.StartServer(t)
	url := natsServer.ClientURL()
	system := strings.Replace(url, "nats://", "nats://operator:operator@", 1)
	dir := t.TempDir()
	_, _, status := client(t, url, "", "init", "--signing-key", filepath.Join(dir, "signing.pem"))
	require.Equal(t, statusDone, status)
	start := func(name string) *serverProcess {
		return startServer(t, "registry", "--http", "127.0.0.1:0", "--signing-key", filepath.Join(dir, "signing.pem"), "--nats", url, "--system-nats", system, "--name", name,
			"--data", filepath.Join(dir, name), "--admin", "127.0.0.1:0")
	}
	first := start("hub-1")
	_, _, status = client(t, url, "", "keys", "create", "kept-key")
	require.Equal(t, statusDone, status)
	second := start("hub-2")
	for _, hub := range []*serverProcess{first, second} {
		code, _ := get(t, http.MethodGet, hub.addresses["admin"]+"/readyz", "", "")
		require.Equal(t, http.StatusOK, code)
	}
	require.NoError(t, first.cmd.Process.Kill())
	<-first.ended
	stdout, _, status := client(t, url, "", "keys", "list") // waits for whoever answers
	require.Equal(t, statusDone, status)
	require.Contains(t, stdout, "kept-key")
	stdout, _, _ = client(t, url, "", "audit", "log", "--type", "term_opened")
	require.Contains(t, stdout, "registry=hub-2")
}

func TestInitIsOnceInALogsLife(t *testing.T) {
	natsServer := eventlogtest.StartServer(t)
	dir := t.TempDir()
	keyFile, other, notes := filepath.Join(dir, "signing.pem"), filepath.Join(dir, "other.pem"), filepath.Join(dir, "notes")
	require.NoError(t, os.WriteFile(notes, []byte("mine"), 0o600))

	_, stderr, status := client(t, natsServer.ClientURL(), "", "init", "--signing-key", notes)
	require.Equal(t, statusRefused, status)
	require.Contains(t, stderr, "left as it is")
	content, err := os.ReadFile(notes)
	require.NoError(t, err)
	require.Equal(t, "mine", string(content))

	stdout, _, status := client(t, natsServer.ClientURL(), "", "init", "--signing-key", keyFile)
	require.Equal(t, statusDone, status)
	public := regexp.MustCompile(`[0-9a-f]{64}`).FindString(stdout)
	require.NotEmpty(t, public)
	before, err := os.ReadFile(keyFile)
	require.NoError(t, err)

	_, _, status = client(t, natsServer.ClientURL(), "", "init", "--signing-key", keyFile)
	require.Equal(t, statusRefused, status)
	after, err := os.ReadFile(keyFile)
	require.NoError(t, err)
	require.Equal(t, before, after, "the log's own key is never touched")
	_, _, status = client(t, natsServer.ClientURL(), "", "init", "--signing-key", other)
	require.Equal(t, statusRefused, status)
	require.NoFileExists(t, other, "a key for nothing is not left behind")

	// An init that was interrupted behind the writing of its key goes on with that key.
	fresh := eventlogtest.StartServer(t)
	stdout, _, status = client(t, fresh.ClientURL(), "", "init", "--signing-key", keyFile)
	require.Equal(t, statusDone, status)
	require.Contains(t, stdout, public)
}

func TestAServerThatDoesNotSyncIsRefused(t *testing.T) {
	natsServer := eventlogtest.StartServer(t, func(o *server.Options) { o.SyncAlways = false })
	dir := t.TempDir()
	_, _, status := client(t, natsServer.ClientURL(), "", "init", "--signing-key", filepath.Join(dir, "signing.pem"))
	require.Equal(t, statusDone, status)
	_, stderr, status := client(t, natsServer.ClientURL(), "", "registry", "--http", "127.0.0.1:0", "--signing-key", filepath.Join(dir, "signing.pem"), "--data", filepath.Join(dir, "r"), "--admin", "127.0.0.1:0",
		"--system-nats", strings.Replace(natsServer.ClientURL(), "nats://", "nats://operator:operator@", 1))
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, stderr, "sync_interval: always")
}
