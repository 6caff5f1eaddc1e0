package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
)

// haystack is everything that was said or written, by where.
type haystack struct {
	mu    sync.Mutex
	found map[string][]byte
}

func (h *haystack) put(where string, what []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.found[where] = append(h.found[where], what...)
}

// holding is where any form of the secret is.
func (h *haystack) holding(secret string) (places []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body := secret[len("kf_"):][:43]
	forms := []string{secret, body}
	for _, text := range []string{secret, body} {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, encoding.EncodeToString([]byte(text)))
		}
	}
	for where, what := range h.found {
		for _, form := range forms {
			if bytes.Contains(what, []byte(form)) {
				places = append(places, where)
				break
			}
		}
	}
	return places
}

// eavesdrop takes down all messages of the account that clients and servers share.
func (h *haystack) eavesdrop(t *testing.T, url string) {
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	_, err = nc.Subscribe(">", func(m *nats.Msg) {
		headers, _ := json.Marshal(m.Header)
		h.put("message to "+m.Subject, append(headers, m.Data...))
	})
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
}

// tap passes connections on to target and takes down their bytes. It gives its own address.
func (h *haystack) tap(t *testing.T, target string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var pumps sync.WaitGroup
	pass := func(to, from net.Conn, where string) {
		defer to.Close()
		_, _ = io.Copy(io.MultiWriter(to, tapped{h, where}), from)
	}
	pumps.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(target, "nats://"))
			if err != nil {
				_ = client.Close()
				continue
			}
			pumps.Go(func() { pass(server, client, "wire to NATS") })
			pumps.Go(func() { pass(client, server, "wire from NATS") })
		}
	})
	t.Cleanup(func() { _ = l.Close(); pumps.Wait() })
	return "nats://" + l.Addr().String()
}

type tapped struct {
	h     *haystack
	where string
}

func (w tapped) Write(p []byte) (int, error) {
	w.h.put(w.where, p)
	return len(p), nil
}

// files takes down everything under the directories.
func (h *haystack) files(t *testing.T, dirs ...string) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				var content []byte
				content, err = os.ReadFile(path)
				h.put("file "+path, content)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone since it was listed
			}
			return err
		})
		require.NoError(t, err)
	}
}

func (h *haystack) page(t *testing.T, url string) {
	status, body := get(t, http.MethodGet, url, "", "")
	require.Equal(t, http.StatusOK, status)
	h.put("page "+url, []byte(body))
}

// A secret is at its creator, and with those that its owner shows it to. It is not in what they keep, say or measure.
func TestASecretIsNowhereElse(t *testing.T) {
	run, err := os.MkdirTemp("/dev/shm", "keyfleet-canary-") //nolint:usetesting // where verifiers keep their runs
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	t.Setenv("RUNTIME_DIRECTORY", run)
	data := filepath.Join(t.TempDir(), "data")
	dev := startDev(t, data)
	h := &haystack{found: map[string][]byte{}}
	h.eavesdrop(t, dev.NATS)
	wire := h.tap(t, dev.NATS)
	cli := func(stdin string, args ...string) (reply registry.KeyReply) {
		stdout, _, status := client(t, wire, stdin, append(args, "--project", "demo", "--json")...)
		require.Equal(t, statusDone, status)
		require.NoError(t, json.Unmarshal([]byte(stdout), &reply))
		return reply
	}

	made := cli("", "keys", "create", "canary-cli", "--deployment", "echo-model")
	given := dev.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"canary-hub","deployments":["echo-model"]}`)
	for _, secret := range []string{made.Secret, given.Secret} {
		require.Equal(t, http.StatusOK, dev.check(t, secret, uint64(given.Seq)))
		status, _ := dev.chat(t, secret, hello)
		require.Equal(t, http.StatusOK, status)
		status, _ = get(t, http.MethodGet, dev.Check+"/v1/check/demo/elsewhere", secret, "")
		require.Equal(t, http.StatusForbidden, status)
		status, _ = get(t, http.MethodGet, dev.Check+"/v1/check/demo/echo-model", "", "", "Authorization", "Bearer "+secret)
		require.Equal(t, http.StatusOK, status)
		cli(secret, "keys", "identify")
		client(t, wire, secret, "check", "--deployment", "echo-model", "--project", "demo", "--check", dev.Check)
	}
	rotated := cli("", "keys", "rotate", "canary-cli", "--grace", "0")
	require.Equal(t, http.StatusUnauthorized, dev.check(t, made.Secret, uint64(rotated.Seq)))
	require.Equal(t, http.StatusOK, dev.check(t, rotated.Secret, uint64(rotated.Seq)))
	deleted := cli("", "keys", "delete", "canary-hub")
	require.Equal(t, http.StatusUnauthorized, dev.check(t, given.Secret, uint64(deleted.Seq)))

	for _, path := range []string{"/metrics", "/debug/", "/debug/pprof/heap", "/debug/pprof/heap?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/allocs?debug=1"} {
		h.page(t, dev.Admin+path)
	}
	h.files(t, data, run) // as a thief finds them while it runs,
	require.Equal(t, statusDone, dev.stop())
	h.files(t, data, run) // and with everything on disk
	h.put("log", []byte(dev.stderr.String()))

	for where, name := range map[string]string{"log": made.ID, "wire to NATS": "canary-cli", "message to keyfleet.log": "canary-hub"} {
		assert.Contains(t, string(h.found[where]), name, "it was listened to")
	}
	assert.Empty(t, h.holding(made.Secret))
	assert.Empty(t, h.holding(rotated.Secret))
	places := h.holding(given.Secret)
	if assert.Len(t, places, 1, "only who asked the registry to make the secret was told it") {
		assert.Contains(t, places[0], "message to _INBOX.")
	}
}
