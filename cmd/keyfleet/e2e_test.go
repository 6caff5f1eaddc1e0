package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
)

// request sends a command as a stock NATS client would.
func (d *devFile) request(t *testing.T, subject, body string) registry.KeyReply {
	t.Helper()
	nc, err := nats.Connect(d.NATS)
	require.NoError(t, err)
	defer nc.Close()
	answer, err := nc.Request(subject, []byte(body), 10*time.Second)
	require.NoError(t, err)
	require.Empty(t, answer.Header.Get("Nats-Service-Error"))
	var reply registry.KeyReply
	require.NoError(t, json.Unmarshal(answer.Data, &reply))
	return reply
}

func (d *devFile) check(t *testing.T, key string, minSeq uint64) int {
	t.Helper()
	status, _ := get(t, http.MethodGet, d.Check+"/v1/check/demo/echo-model", key, "",
		"Keyfleet-Min-Seq", strconv.FormatUint(minSeq, 10))
	return status
}

func (d *devProcess) chat(t *testing.T, key, body string) (int, string) {
	t.Helper()
	return get(t, http.MethodPost, d.Gateway+"/echo-model/v1/chat/completions", key, body)
}

const hello = `{"messages":[{"role":"user","content":"Hello, edge!"}]}`

// The promise of the README: a key opens a model until it is deleted, and a kill -9 changes nothing.
func TestAKeyLivesAndDiesAndOutlivesKill9(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dev := startDev(t, data)

	stock := dev.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"stock-key","deployments":["echo-model"]}`)
	require.NotEmpty(t, stock.Secret)
	ours, status := dev.keyfleet(t, "", "keys", "create", "cli-key", "--deployment", "echo-model", "--json")
	require.Equal(t, statusDone, status)
	var cli registry.KeyReply
	require.NoError(t, json.Unmarshal([]byte(ours), &cli))

	require.Equal(t, http.StatusOK, dev.check(t, stock.Secret, uint64(stock.Seq)))
	require.Equal(t, http.StatusOK, dev.check(t, cli.Secret, uint64(cli.Seq)))
	status, body := dev.chat(t, cli.Secret, hello)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"content":"Hello, edge!"`)
	status, body = dev.chat(t, cli.Secret, `{"stream":true,"messages":[{"role":"user","content":"Hello, edge!"}]}`)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "data: [DONE]")
	status, _ = dev.chat(t, "", hello)
	require.Equal(t, http.StatusUnauthorized, status)

	gone := dev.request(t, "keyfleet.cmd.demo.dev.key.delete", `{"key":"stock-key"}`)
	require.Equal(t, http.StatusUnauthorized, dev.check(t, stock.Secret, uint64(gone.Seq)))
	status, _ = dev.chat(t, stock.Secret, hello)
	require.Equal(t, http.StatusUnauthorized, status)

	keys, _ := dev.keyfleet(t, "", "keys", "list", "--json")
	history, _ := dev.keyfleet(t, "", "audit", "log", "--json")
	said := dev.stderr.String()
	dev.kill()

	again := startDev(t, data)
	require.Equal(t, dev.AdminKey, again.AdminKey)
	require.Equal(t, http.StatusOK, again.check(t, cli.Secret, uint64(gone.Seq)))
	require.Equal(t, http.StatusUnauthorized, again.check(t, stock.Secret, uint64(gone.Seq)))
	status, body = again.chat(t, cli.Secret, hello)
	require.Equal(t, http.StatusOK, status, body)
	keysAgain, _ := again.keyfleet(t, "", "keys", "list", "--json")
	require.Equal(t, withoutSeq(t, keys), withoutSeq(t, keysAgain))
	historyAgain, _ := again.keyfleet(t, "", "audit", "log", "--json")
	require.True(t, strings.HasPrefix(historyAgain, history), "history goes on where it was")

	for _, secret := range []string{stock.Secret, cli.Secret, dev.AdminKey} {
		require.NotContains(t, said+again.stderr.String(), secret)
		require.NotContains(t, historyAgain, secret)
	}
	require.Equal(t, statusDone, again.stop())
	require.NoFileExists(t, devFilePath(data), "it would say that dev is ready")
}

// withoutSeq leaves out how far the log had come.
func withoutSeq(t *testing.T, page string) registry.KeyPage {
	t.Helper()
	var p registry.KeyPage
	require.NoError(t, json.Unmarshal([]byte(page), &p))
	require.NotEmpty(t, p.Results)
	p.Seq = 0
	return p
}

func TestNoSecretIsLeftInTheDirectory(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dev := startDev(t, data)
	key := dev.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"secret-key","deployments":["echo-model"]}`)
	require.Equal(t, http.StatusOK, dev.check(t, key.Secret, uint64(key.Seq)))
	require.Equal(t, statusDone, dev.stop())
	require.NoError(t, filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NotContains(t, string(content), key.Secret, path)
		if filepath.Base(path) != "dev.last.json" {
			require.NotContains(t, string(content), dev.AdminKey, path)
		}
		return err
	}))
}

func TestNobodyElseCanReadTheDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no modes here")
	}
	data := t.TempDir() // an empty directory with the usual, wider mode
	startDev(t, data)
	require.NoError(t, filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		require.Zero(t, info.Mode().Perm()&0o077, "%s has mode %s", path, info.Mode())
		return err
	}))
}

func TestALostDevFileMeansANewAdminKey(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dev := startDev(t, data)
	dev.kill()
	require.NoError(t, os.Remove(devFilePath(data)))
	again := startDev(t, data)
	require.NotEqual(t, dev.AdminKey, again.AdminKey)
	history, _ := again.keyfleet(t, "", "audit", "log", "--type", "rotated", "--json")
	require.Equal(t, 1, strings.Count(history, "\n"), "no second admin key, and the lost secret is dead")
}

// A first start that was interrupted is finished by the next. A log that was there and is gone is not made anew:
// that would hide the loss, and end it for good.
func TestALogIsMadeOnlyInANewDirectory(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dev := startDev(t, data)
	dev.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"kept-key"}`)
	require.Equal(t, statusDone, dev.stop())
	for _, projection := range []string{"catalog", "verifier"} {
		require.NoError(t, os.RemoveAll(filepath.Join(data, projection)))
	}
	again := startDev(t, data)
	shown, _ := again.keyfleet(t, "", "keys", "list")
	require.Contains(t, shown, "kept-key")
	require.Equal(t, statusDone, again.stop())

	require.NoError(t, os.RemoveAll(filepath.Join(data, "nats")))
	_, err := launchDev(data)
	require.ErrorContains(t, err, "was not found")
	_, err = launchDev(data)
	require.ErrorContains(t, err, "was not found", "nor at the second try")
}

func TestARemovedDemoDeploymentStaysRemoved(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dev := startDev(t, data)
	_, status := dev.keyfleet(t, "", "deployments", "remove", "echo-model")
	require.Equal(t, statusDone, status)
	require.Equal(t, statusDone, dev.stop())
	again := startDev(t, data)
	_, status = again.keyfleet(t, "", "deployments", "show", "echo-model")
	require.Equal(t, statusRefused, status)
}

// The echo model is put back where it was, so that starting dev again is no event; and a model that somebody
// else put behind its name is left alone.
func TestTheDemoDeploymentIsOnlyDevsOwnToMove(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dev := startDev(t, data)
	require.Equal(t, statusDone, dev.stop())
	again := startDev(t, data)
	edits, _ := again.keyfleet(t, "", "audit", "log", "--type", "deployment_edited", "--json")
	require.Equal(t, 1, strings.Count(edits, "\n"))
	_, status := again.keyfleet(t, "", "deployments", "edit", "echo-model", "--upstream", "http://127.0.0.1:9/v9")
	require.Equal(t, statusDone, status)
	require.Equal(t, statusDone, again.stop())
	third := startDev(t, data)
	shown, _ := third.keyfleet(t, "", "deployments", "show", "echo-model", "--json")
	require.Contains(t, shown, `"upstream":"http://127.0.0.1:9/v9"`)
}

func TestAuditFollowsUntilItIsStopped(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	cmd := exec.Command("keyfleet", "audit", "log", "--follow", "--nats", dev.NATS, "--type", "created", "--project", "demo", "--json")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	for _, name := range []string{"first-key", "second-key"} {
		dev.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"`+name+`"}`)
		require.True(t, lines.Scan())
		require.Contains(t, lines.Text(), name)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
}

func TestManyDeletionsAreOneWait(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	nc, err := nats.Connect(dev.NATS)
	require.NoError(t, err)
	defer nc.Close()
	var names strings.Builder
	for i := range 300 {
		name := fmt.Sprintf("bulk-%d", i)
		_, err := nc.Request("keyfleet.cmd.demo.dev.key.create", []byte(`{"name":"`+name+`"}`), 10*time.Second)
		require.NoError(t, err)
		fmt.Fprintln(&names, name)
	}
	out, status := dev.keyfleet(t, names.String(), "keys", "delete", "-", "--wait", "confirmed", "--json")
	require.Equal(t, statusDone, status)
	replies := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, replies, 300)
	newest := uint64(0)
	for _, line := range replies {
		var reply registry.KeyReply
		require.NoError(t, json.Unmarshal([]byte(line), &reply))
		require.Equal(t, registry.Deleted, reply.Status)
		require.Equal(t, isConfirmed, reply.Confirmation.State, "what is said of the last is true of all before it")
		newest = max(newest, uint64(reply.Seq))
	}
	var last registry.KeyReply
	require.NoError(t, json.Unmarshal([]byte(replies[299]), &last))
	require.Equal(t, newest, uint64(last.Seq), "whoever has applied what was waited for has applied all")
}
