package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// fleetOfProcesses is a log whose leases are short, for registries and verifiers in processes of their own.
type fleetOfProcesses struct {
	*testing.T
	nats              *eventlogtest.Server
	dir, run          string
	url, system, key  string // of NATS, of its system account, and of the log
	registry, standby *serverProcess
}

func startFleetOfProcesses(t *testing.T, change ...func(*server.Options)) *fleetOfProcesses {
	server := eventlogtest.StartServer(t, change...)
	f := &fleetOfProcesses{T: t, nats: server, dir: t.TempDir(), url: server.ClientURL()}
	f.system = strings.Replace(f.url, "nats://", "nats://operator:operator@", 1)
	var err error
	f.run, err = os.MkdirTemp("/dev/shm", "keyfleet-test-") //nolint:usetesting // only on tmpfs does an instance go on
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(f.run) })
	stdout, _, status := client(t, f.url, "", "init", "--signing-key", filepath.Join(f.dir, "signing.pem"))
	require.Equal(t, statusDone, status)
	f.key = regexp.MustCompile(`[0-9a-f]{64}`).FindString(stdout)
	eventlogtest.Age(t, server.Connect(), 2*time.Second)
	f.registry = f.startRegistry("hub-1")
	require.Equal(t, "hub-1", f.fleet().Registry)
	f.standby = f.startRegistry("hub-2")
	return f
}

func (f *fleetOfProcesses) startRegistry(name string, args ...string) *serverProcess {
	return startServer(f.T, append([]string{"registry", "--signing-key", filepath.Join(f.dir, "signing.pem"), "--nats", f.url, "--system-nats", f.system,
		"--name", name, "--data", filepath.Join(f.dir, name), "--admin", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...)
}

func (f *fleetOfProcesses) startVerifier(name string) *serverProcess {
	return startServer(f.T, "verifier", "--log-key", f.key, "--nats", f.url, "--data", filepath.Join(f.dir, name), "--run", filepath.Join(f.run, name),
		"--name", name, "--check", "127.0.0.1:0", "--admin", "127.0.0.1:0")
}

// client is in this process, and sends again by itself.
func (f *fleetOfProcesses) client() *natsapi.Client {
	return natsapi.NewClient(f.nats.Connect(), "acme", "alice")
}

// fleet is what keyfleet fleet --json shows. It waits for a registry that answers.
func (f *fleetOfProcesses) fleet() (view registry.FleetView) {
	f.Helper()
	stdout, _, _ := client(f.T, f.url, "", "fleet", "--json")
	require.NoError(f, json.Unmarshal([]byte(stdout), &view))
	return view
}

// newKey is the secret of a key that opens a deployment, and that all verifiers have.
func (f *fleetOfProcesses) newKey(name string, expires time.Time) (secret string) {
	f.Helper()
	c := f.client()
	_ = c.Do(f.Context(), registry.DeploymentRegister, registry.Request{Name: "llama"}, nil) // it may be there
	at := expires.UTC().Format(time.RFC3339Nano)
	if expires.IsZero() {
		at = "never"
	}
	var made registry.KeyReply
	request := registry.Request{Name: name, Deployments: &[]string{"llama"}, ExpiresAt: &at, Wait: registry.WaitConfirmed}
	require.NoError(f, c.Do(f.Context(), registry.KeyCreate, request, &made))
	return made.Secret
}

func (f *fleetOfProcesses) check(v *serverProcess, secret string) int {
	f.Helper()
	return v.check(f.T, secret)
}

func (f *fleetOfProcesses) becomes(status int, v *serverProcess, secret string) {
	f.Helper()
	v.becomes(f.T, status, secret)
}

// activity is what a registry says of itself.
func activity(t *testing.T, hub *serverProcess) (a struct {
	Active bool
	Term   uint64
},
) {
	t.Helper()
	_, body := get(t, http.MethodGet, hub.addresses["admin"]+"/readyz", "", "")
	require.NoError(t, json.Unmarshal([]byte(body), &a))
	return a
}

// done is a command that was answered.
type done struct {
	registry.Request
	reply registry.KeyReply
	at    time.Time
}

// Clients that only send again are not to notice more of a registry's death than a pause.
func TestKill9OfTheActiveRegistryLosesNothing(t *testing.T) {
	const clients, each = 4, 150
	f := startFleetOfProcesses(t)
	f.startVerifier("edge-1")
	answered := make(chan done, clients*each)
	var all sync.WaitGroup
	for i := range clients {
		c := f.client()
		all.Go(func() {
			for n := range each {
				d := done{Request: registry.Request{Name: fmt.Sprintf("key-%d-%d", i, n), CommandID: fmt.Sprintf("id-%d-%d", i, n)}}
				if !assert.NoError(t, c.Do(t.Context(), registry.KeyCreate, d.Request, &d.reply)) {
					return
				}
				d.at = time.Now()
				answered <- d
			}
		})
	}
	var before []done
	for range each {
		before = append(before, <-answered)
	}
	killed := time.Now()
	require.NoError(t, f.registry.cmd.Process.Kill())
	all.Wait()
	close(answered)
	after := before
	for d := range answered {
		after = append(after, d)
	}
	var longest time.Duration
	for i := 1; i < len(after); i++ {
		longest = max(longest, after[i].at.Sub(after[i-1].at))
	}
	t.Logf("taken over: the longest time without an answer was %s, the kill came after %d of %d answers", longest, len(before), len(after))
	assert.Less(t, longest, 15*time.Second)
	assert.WithinDuration(t, killed, after[len(before)].at, 15*time.Second)

	c := f.client()
	for _, d := range after {
		var again registry.KeyReply
		require.NoError(t, c.Do(t.Context(), registry.KeyCreate, d.Request, &again))
		require.Equal(t, d.reply.Seq, again.Seq, "the same command has the same effect, at the same place")
		require.Equal(t, d.reply.ID, again.ID)
	}
	var page registry.KeyPage
	require.NoError(t, c.Do(t.Context(), registry.KeyList, registry.Request{Limit: 1}, &page))
	assert.Equal(t, clients*each, page.Count)
	stdout, _, _ := client(t, f.url, "", "audit", "log", "--type", "created", "--json")
	assert.Equal(t, clients*each, strings.Count(stdout, `"type":"created","project":"acme"`), "one effect per command")
}

// A registry that was frozen finds that another leads, and says nothing.
func TestAFrozenRegistryStepsDown(t *testing.T) {
	f := startFleetOfProcesses(t)
	before := activity(t, f.registry)
	require.True(t, before.Active)
	require.False(t, activity(t, f.standby).Active)

	frozen := time.Now()
	require.NoError(t, f.registry.cmd.Process.Signal(syscall.SIGSTOP))
	require.Eventually(t, func() bool { return activity(t, f.standby).Active }, 15*time.Second, time.Millisecond)
	t.Logf("taken over: the other led %s after the first was frozen", time.Since(frozen))
	view := f.fleet()
	assert.Equal(t, "hub-2", view.Registry)
	assert.Greater(t, view.Term, before.Term)

	require.NoError(t, f.registry.cmd.Process.Signal(syscall.SIGCONT))
	c := f.client()
	for range 50 {
		require.False(t, activity(t, f.registry).Active)
		var now registry.FleetView
		require.NoError(t, c.Do(t.Context(), registry.FleetStatus, registry.Request{}, &now))
		require.Equal(t, view.Registry, now.Registry)
		require.Equal(t, view.Term, now.Term)
	}
	require.NoError(t, f.standby.cmd.Process.Kill())
	assert.Equal(t, "hub-1", f.fleet().Registry, "it stood by, and leads again")
}

func TestAVerifierIsFrozenKilledAndStopped(t *testing.T) {
	f := startFleetOfProcesses(t)
	v := f.startVerifier("edge-1")
	c := f.client()
	require.NoError(t, c.Do(t.Context(), registry.DeploymentRegister, registry.Request{Name: "llama"}, nil))
	var key registry.KeyReply
	request := registry.Request{Name: "victim", Deployments: &[]string{"llama"}, Wait: registry.WaitConfirmed}
	require.NoError(t, c.Do(t.Context(), registry.KeyCreate, request, &key))
	require.Equal(t, "confirmed", key.Confirmation.State)
	check := func() int {
		status, _ := get(t, http.MethodGet, v.addresses["check"]+"/v1/check/acme/llama", key.Secret, "")
		return status
	}
	require.Eventually(t, func() bool { return check() == http.StatusOK }, 20*time.Second, 10*time.Millisecond)
	member := f.fleet().Verifiers[0].Instance

	require.NoError(t, v.cmd.Process.Signal(syscall.SIGSTOP))
	var deleted registry.KeyReply
	require.NoError(t, c.Do(t.Context(), registry.KeyDelete, registry.Request{Key: "victim", Wait: registry.WaitConfirmed}, &deleted))
	require.Equal(t, "fenced", deleted.Confirmation.State)
	require.Len(t, deleted.Confirmation.Waiting, 1)
	assert.Equal(t, member, deleted.Confirmation.Waiting[0].Instance)
	first := make(chan int, 1)
	go func() { first <- check() }() // it waits in the socket
	require.NoError(t, v.cmd.Process.Signal(syscall.SIGCONT))
	for status := <-first; status != http.StatusUnauthorized; status = check() {
		require.Equal(t, http.StatusServiceUnavailable, status, "until it has heard of the deletion it has no lease")
	}

	member = f.fleet().Verifiers[0].Instance
	require.NoError(t, v.cmd.Process.Kill())
	<-v.ended
	v = f.startVerifier("edge-1")
	require.Eventually(t, func() bool { return check() == http.StatusUnauthorized }, 20*time.Second, 10*time.Millisecond)
	after := f.fleet().Verifiers
	require.Len(t, after, 1)
	assert.Equal(t, member, after[0].Instance, "it went on as the same member")

	require.NoError(t, v.cmd.Process.Signal(syscall.SIGTERM))
	<-v.ended
	assert.Empty(t, f.fleet().Verifiers, "a clean stop says goodbye")
}
