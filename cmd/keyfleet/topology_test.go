package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
)

// topology is what make topology starts: see deploy/topology.
type topology struct {
	t        testing.TB
	bin, net string
}

func startTopology(t testing.TB) *topology {
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	net := fmt.Sprintf("keyfleet-test-%d", os.Getpid()) // what a run before left behind is in nobody's way
	if out, err := exec.Command("ip", "netns", "add", net+"-probe").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %v: %s", err, out)
	}
	require.NoError(t, exec.Command("ip", "netns", "delete", net+"-probe").Run())
	top := &topology{t, t.TempDir(), net}
	for program, of := range map[string]string{"keyfleet": ".", "nats-server": natsServer} {
		buildProgram(t, top.bin, program, of)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(top.bin, "topology", "*.log"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", filepath.Base(log), text[max(0, len(text)-2000):])
			}
		}
		_, _, _ = top.do("", "down")
	})
	said, complaint, status := top.do("", "up")
	require.Zero(t, status, complaint)
	require.Equal(t, 3, strings.Count(said, "  serving  "), said)
	return top
}

const natsServer = "github.com/nats-io/nats-server/v2"

// buildProgram builds as make does, which has compiled most of it.
func buildProgram(t testing.TB, dir, name, of string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	build := exec.Command("go", "build", "-trimpath", "-o", path, of)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

func (top *topology) do(stdin string, args ...string) (said, complaint string, status int) {
	cmd := exec.Command("../../deploy/topology", args...)
	cmd.Env = append(os.Environ(), "BIN="+top.bin, "NET="+top.net)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	_ = cmd.Run()
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

func (top *topology) must(args ...string) string {
	said, complaint, status := top.do("", args...)
	require.Zero(top.t, status, "%s: %s", args, complaint)
	return said
}

func (top *topology) check(pop, key string) int {
	_, _, status := top.do(key, "check", pop, "--deployment", "llama")
	return status
}

// eventually gives how long it took.
func (top *topology) eventually(what string, done func() bool) time.Duration {
	began := time.Now()
	require.Eventually(top.t, done, time.Minute, 20*time.Millisecond, what)
	return time.Since(began).Round(time.Millisecond)
}

// TestTopology has a whole fleet on one machine lose a line, a verifier, a NATS server and the active registry, has every process replaced,
// and copies of the log lost.
func TestTopology(t *testing.T) {
	top := startTopology(t)
	top.must("keyfleet", "deployments", "register", "llama")
	create := func(name string) string {
		return top.must("keyfleet", "keys", "create", name, "--deployment", "llama", "--wait", "confirmed")
	}
	key, other := create("first"), create("other")
	top.must("keyfleet", "keys", "delete", "other", "--wait", "confirmed")
	for _, pop := range []string{"ams", "fra", "sin"} {
		require.Equal(t, statusDone, top.check(pop, key), pop)
		require.Equal(t, statusRefused, top.check(pop, other), pop)
	}

	top.must("cut", "ams")
	top.must("kill", "verifier-ams")
	top.must("start", "verifier-ams")
	top.eventually("a verifier goes on after a restart, with the hub out of reach", func() bool { return top.check("ams", key) == statusDone })
	_, complaint, status := top.do("", "keyfleet", "keys", "delete", "first", "--wait", "confirmed", "--wait-timeout", "2s")
	require.Equal(t, statusUnavailable, status, "a deletion that one has not applied is not confirmed")
	require.Contains(t, complaint, "ams in ams")
	require.Equal(t, statusRefused, top.check("fra", key))
	require.Equal(t, statusDone, top.check("ams", key), "until its lease is over")
	top.must("heal", "ams")
	t.Log("revoked after the line was back:", top.eventually("revoked", func() bool { return top.check("ams", key) == statusRefused }))

	commands := func() bool {
		_, _, status := top.do("", "keyfleet", "keys", "create", "probe-"+time.Now().Format("150405.000"), "--timeout", "1s")
		return status == statusDone
	}
	top.must("kill", "hub2")
	t.Log("commands after a NATS server of the hub was killed:", top.eventually("commands", commands))
	top.must("start", "hub2")
	fleet, _, _ := top.do("", "keyfleet", "fleet") // not without alarms just now
	active, _, _ := strings.Cut(strings.TrimPrefix(fleet, "registry hub-"), ",")
	top.must("kill", "registry"+active)
	t.Log("commands after the active registry was killed:", top.eventually("commands", commands))
	top.must("start", "registry"+active)
	top.settled()

	lasting := create("lasting")
	checks, done := top.upgrade(strings.TrimSpace(lasting), 50)
	for _, o := range append(checks, done) {
		require.Zero(t, o.Failed, "%v", o.Failures)
		require.NotZero(t, o.Done)
	}
	t.Logf("every process was replaced by another: %d commands, and %d checks at each PoP, none failed", done.Done, checks[0].Done)

	// As docs/runbooks.md has it: a node is lost, a replica is corrupt, quorum is lost.
	for lost, what := range map[string]string{"hub3": "data", "hub2": "data/jetstream/*/streams/KEYFLEET_LOG"} {
		top.must("stop", lost)
		dirs, err := filepath.Glob(filepath.Join(top.bin, "topology", lost, what))
		require.NoError(t, err)
		require.Len(t, dirs, 1)
		require.NoError(t, os.RemoveAll(dirs[0]))
		top.must("start", lost)
		t.Log(lost, "has its copy again after", top.eventually("the copies are complete", top.complete))
	}
	top.must("kill", "hub1")
	top.must("kill", "hub2")
	require.False(t, commands())
	for _, pop := range pops {
		require.Equal(t, statusDone, top.check(pop, lasting), "checks go on")
	}
	top.must("start", "hub1")
	t.Log("commands after one of two NATS servers that were killed is back:", top.eventually("commands", commands))
	top.must("start", "hub2")
	top.eventually("the copies are complete", top.complete)
	top.must("keyfleet", "keys", "delete", "lasting", "--wait", "confirmed")
}

// complete reports whether all NATS servers of the hub have all that they are to keep, by their own word. What the leader of a
// stream says of the others may be from before they lost something.
func (top *topology) complete() bool {
	nc := top.connect("hub/metrics")
	defer nc.Close()
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil || nc.PublishRequest("$SYS.REQ.SERVER.PING.HEALTHZ", answers.Subject, nil) != nil {
		return false
	}
	for range 3 {
		m, err := answers.NextMsg(2 * time.Second)
		if err != nil || !bytes.Contains(m.Data, []byte(`"status":"ok"`)) {
			return false
		}
	}
	return true
}

func (top *topology) logInfo() (*jetstream.StreamInfo, error) {
	nc := top.connect("hub/setup")
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(top.t.Context(), 2*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, eventlog.StreamName)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}
