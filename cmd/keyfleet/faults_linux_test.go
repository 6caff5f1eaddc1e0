package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
)

// Where a PoP's clock is behind, keys die in time by the time that leases bring along; where it is ahead, they die early there,
// and nowhere else. Both show.
func TestPoPsWhoseClocksAreWrong(t *testing.T) {
	f := startFleetOfProcesses(t)
	right, also := f.startVerifier("ams-1"), f.startVerifier("fra-1")
	t.Setenv(clockVariable, "-24h")
	behind := f.startVerifier("sin-1")
	t.Setenv(clockVariable, "1h")
	ahead := f.startVerifier("gru-1")
	t.Setenv(clockVariable, "")

	soon := f.newKey("soon", time.Now().Add(3*time.Second))
	later := f.newKey("later", time.Now().Add(30*time.Minute))
	for _, v := range []*serverProcess{right, also, behind} {
		f.becomes(http.StatusOK, v, later)
		f.becomes(http.StatusUnauthorized, v, soon)
	}
	f.becomes(http.StatusUnauthorized, ahead, later)
	f.becomes(http.StatusOK, right, later)
	alarmed := map[string]bool{}
	for _, v := range f.fleet().Verifiers {
		alarmed[v.Verifier] = slices.Contains(v.Alarms, registry.AlarmClock)
	}
	require.Equal(t, map[string]bool{"ams-1": false, "fra-1": false, "sin-1": true, "gru-1": true}, alarmed)
}

// A registry whose clock is a year ahead records nothing by it, and there is nothing to put right by hand.
func TestARegistryWhoseClockIsAYearAhead(t *testing.T) {
	f := startFleetOfProcesses(t)
	v := f.startVerifier("ams-1")
	key := f.newKey("half-a-year", time.Now().AddDate(0, 6, 0))
	f.becomes(http.StatusOK, v, key)
	for _, hub := range []*serverProcess{f.registry, f.standby} {
		require.NoError(t, hub.cmd.Process.Kill())
		<-hub.ended
	}
	t.Setenv(clockVariable, "8760h")
	wrong := f.startRegistry("hub-1")
	t.Setenv(clockVariable, "")
	require.Eventually(t, func() bool { return strings.Contains(wrong.said.String(), "the clock is doubted") }, 30*time.Second, 20*time.Millisecond)
	var made registry.KeyReply
	require.NoError(t, f.client().Do(t.Context(), registry.KeyCreate, registry.Request{Name: "meanwhile", Wait: registry.WaitConfirmed}, &made))
	require.Equal(t, "confirmed", made.Confirmation.State)
	require.Less(t, made.CreatedAt.Time(), time.Now().Add(time.Hour))
	f.becomes(http.StatusOK, v, key)
	require.NoError(t, wrong.cmd.Process.Kill())
	<-wrong.ended
	f.startRegistry("hub-2")
	var still registry.KeyReply
	require.NoError(t, f.client().Do(t.Context(), registry.KeyGet, registry.Request{Key: "half-a-year"}, &still))
	require.Equal(t, registry.Active, still.Status)
	f.becomes(http.StatusOK, v, key)
}

// A verifier whose disk refuses to be written goes on from memory, a registry whose disk does makes way for another, and
// revocations are confirmed meanwhile. Both are well again once they can write.
func TestDisksThatRefuseToBeWritten(t *testing.T) {
	disk := newForgetfulDisk(t)
	f := startFleetOfProcesses(t)
	leads := func(name string) {
		t.Helper()
		require.Eventually(t, func() bool { return f.fleet().Registry == name }, 30*time.Second, 50*time.Millisecond)
	}
	kill := func(p *serverProcess) {
		require.NoError(t, p.cmd.Process.Kill())
		<-p.ended
	}
	kill(f.standby)
	f.startRegistry("hub-3", "--data", filepath.Join(disk.dir, "hub-3"))
	v := startServer(t, "verifier", "--log-key", f.key, "--nats", f.url, "--data", filepath.Join(disk.dir, "ams-1"), "--name", "ams-1",
		"--check", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	for what, errno := range map[string]syscall.Errno{"full": syscall.ENOSPC, "readonly": syscall.EROFS} {
		kill(f.registry)
		leads("hub-3")
		f.registry = f.startRegistry("hub-1")
		dead, alive := f.newKey("dead-"+what, time.Time{}), f.newKey("alive-"+what, time.Time{})
		f.becomes(http.StatusOK, v, dead)
		disk.refuse(errno)
		var gone registry.KeyReply
		require.NoError(t, f.client().Do(t.Context(), registry.KeyDelete, registry.Request{Key: "dead-" + what}, &gone), what)
		leads("hub-1") // hub-3 has a head to keep for the next grant, and cannot
		var receipt registry.ReceiptReply
		require.NoError(t, f.client().Do(t.Context(), registry.FleetConfirm, registry.Request{Seq: uint64(gone.Seq), WaitTimeout: "20s"}, &receipt), what)
		require.Equal(t, "confirmed", receipt.Confirmation.State, what)
		require.NotEqual(t, http.StatusOK, f.check(v, dead), what)
		f.becomes(http.StatusUnauthorized, v, dead) // its lease is short, and was over while another registry took over
		f.becomes(http.StatusOK, v, alive)
		disk.refuse(0)
		f.becomes(http.StatusOK, v, f.newKey("after-"+what, time.Time{}))
	}
}

// What a newer registry writes is not guessed at: verifiers answer from before, until they are upgraded or their leases are over.
func TestACommitOfANewerSchema(t *testing.T) {
	f := startFleetOfProcesses(t)
	v := f.startVerifier("ams-1")
	alive := f.newKey("alive", time.Time{})
	f.becomes(http.StatusOK, v, alive)
	nc := f.nats.Connect()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	log, err := js.Stream(t.Context(), "KEYFLEET_LOG")
	require.NoError(t, err)
	last, err := log.GetLastMsgForSubject(t.Context(), "keyfleet.log")
	require.NoError(t, err)
	newer := append([]byte(nil), last.Data...)
	newer[1] = 2
	_, err = js.Publish(t.Context(), "keyfleet.log", newer)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(v.said.String(), "upgrade it") }, 30*time.Second, 20*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.Error(t, f.client().Do(ctx, registry.KeyDelete, registry.Request{Key: "alive"}, nil))
	for _, hub := range []*serverProcess{f.registry, f.standby} {
		select { // it is too old for this log, and says so
		case <-hub.ended:
		case <-time.After(30 * time.Second):
			require.Fail(t, "it goes on")
		}
		require.Contains(t, hub.said.String(), "upgrade it")
	}
	require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, f.check(v, alive), "as long as its lease lasts")
}

// Processes of a version that knows one schema more, on a log of this one's: they go on with it, and with older ones beside them,
// until somebody raises the log's schema.
func TestProcessesOfTheNextSchema(t *testing.T) {
	f := startFleetOfProcesses(t)
	older := f.startVerifier("ams-1")
	usual := os.Getenv("PATH")
	t.Setenv("PATH", buildNextSchema(t)+string(filepath.ListSeparator)+usual)
	stdout, _, _ := client(t, f.url, "", "version")
	require.Contains(t, stdout, "schema 2")
	newer := f.startVerifier("fra-1")
	for _, hub := range []*serverProcess{f.registry, f.standby} {
		require.NoError(t, hub.cmd.Process.Signal(syscall.SIGTERM))
		<-hub.ended
	}
	f.startRegistry("hub-1")
	t.Setenv("PATH", usual)

	key := f.newKey("demo-key", time.Time{})
	for _, v := range []*serverProcess{older, newer} {
		f.becomes(http.StatusOK, v, key)
	}
	var gone registry.KeyReply
	require.NoError(t, f.client().Do(t.Context(), registry.KeyDelete, registry.Request{Key: "demo-key", Wait: registry.WaitConfirmed}, &gone))
	require.Equal(t, "confirmed", gone.Confirmation.State)
	for _, v := range []*serverProcess{older, newer} {
		f.becomes(http.StatusUnauthorized, v, key)
	}
}

// buildNextSchema gives a directory with a keyfleet in it.
func buildNextSchema(t *testing.T) string {
	dir := t.TempDir()
	source, err := filepath.Abs("../../events/commit.go")
	require.NoError(t, err)
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	is := regexp.MustCompile(`(?m)^\tSchema( +)= 1 `)
	require.Len(t, is.FindAll(text, -1), 1)
	changed, overlay := filepath.Join(dir, "commit.go"), filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(changed, is.ReplaceAll(text, []byte("\tSchema${1}= 2 ")), 0o600))
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, replace, 0o600))
	build := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", filepath.Join(dir, "keyfleet"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make does, which has compiled most of it
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}
