package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
)

// restAnswer is what a call was answered with.
type restAnswer struct {
	status int
	header http.Header
	body   string
}

// rest calls as the holder of an admin key.
func rest(t testing.TB, method, url, adminKey, body string) restAnswer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "APIKey "+adminKey)
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return restAnswer{reply.StatusCode, reply.Header, string(text)}
}

// A key made over REST opens, and is confirmed dead when the deletion is answered.
func TestREST(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	keys := dev.HTTP + "/cloud/v3/inference/demo/api_keys"
	made := rest(t, http.MethodPost, keys, dev.AdminKey, `{"name":"rest-key","deployment_names":["echo-model"]}`)
	require.Equal(t, http.StatusOK, made.status)
	var key registry.KeyReply
	require.NoError(t, json.Unmarshal([]byte(made.body), &key))
	require.Equal(t, http.StatusOK, dev.check(t, key.Secret, uint64(key.Seq)))

	gone := rest(t, http.MethodDelete, keys+"/rest-key?wait=confirmed", dev.AdminKey, "")
	require.Equal(t, http.StatusNoContent, gone.status)
	require.Equal(t, "confirmed", gone.header.Get("Keyfleet-Confirmation"))
	require.Equal(t, http.StatusUnauthorized, dev.check(t, key.Secret, 0))
	receipt := rest(t, http.MethodGet, dev.HTTP+"/v1/fleet/confirmations/"+gone.header.Get("Keyfleet-Seq"), dev.AdminKey, "")
	require.Contains(t, receipt.body, `"state":"confirmed","verifiers":1,"acked":1`)

	deleted, err := strconv.Atoi(gone.header.Get("Keyfleet-Seq"))
	require.NoError(t, err)
	require.Greater(t, deleted, int(key.Seq))
}

// The registry that leads a new log first lets one admin in, and no second one ever.
func TestTheFirstAdminKey(t *testing.T) {
	natsServer := eventlogtest.StartServer(t)
	url, dir := natsServer.ClientURL(), t.TempDir()
	signing := filepath.Join(dir, "signing.pem")
	_, _, status := client(t, url, "", "init", "--signing-key", signing)
	require.Equal(t, statusDone, status)
	start := func() *serverProcess {
		return startServer(t, "registry", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--signing-key", signing, "--nats", url,
			"--system-nats", strings.Replace(url, "nats://", "nats://operator:operator@", 1), "--data", filepath.Join(dir, "registry"))
	}
	file := filepath.Join(dir, "registry", "first-admin-key")
	p := start()
	admits := func(key string) bool {
		reply := rest(t, http.MethodGet, p.addresses["http"]+"/cloud/v3/inference/_admin/api_keys", key, "")
		return reply.status == http.StatusOK
	}
	var key string
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(file)
		key = strings.TrimSpace(string(text))
		return err == nil && admits(key)
	}, 20*time.Second, 10*time.Millisecond)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	require.NoError(t, os.Remove(file))
	require.NoError(t, p.cmd.Process.Kill())
	<-p.ended
	p = start()
	require.Eventually(t, func() bool {
		reply := rest(t, http.MethodPost, p.addresses["http"]+"/cloud/v3/inference/acme/api_keys", key, `{"name":"acme-key"}`)
		return reply.status == http.StatusOK || reply.status == http.StatusConflict
	}, 30*time.Second, 50*time.Millisecond)
	require.NoFileExists(t, file)
}
