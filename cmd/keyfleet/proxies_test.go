package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
)

// The configurations in deploy/ do what docs/gateways.md says of them, in the real programs.
func TestProxies(t *testing.T) {
	for _, program := range proxyPrograms {
		t.Run(program.name, func(t *testing.T) { testProxy(t, program.start(t)) })
	}
}

func testProxy(t *testing.T, p *proxy) {
	dev := p.dev
	good, id := dev.newKey(t, "good", "echo-model")
	elsewhere, _ := dev.newKey(t, "elsewhere")
	doomed, _ := dev.newKey(t, "doomed", "echo-model")

	t.Run("what may pass reaches the model without its key", func(t *testing.T) {
		for _, header := range []string{"X-Api-Key: " + good, "Authorization: Bearer " + good} {
			status, _, body := p.ask(t, "POST", "/v1/x?a=b", "hello", header,
				"Keyfleet-Key-Id: forged", "Keyfleet-Project: forged", "Accept: text/plain")
			require.Equal(t, http.StatusOK, status, body)
			var came arrival
			require.NoError(t, json.Unmarshal([]byte(body), &came))
			require.Equal(t, "POST /v1/x?a=b hello", came.Method+" "+came.URI+" "+came.Body)
			require.Equal(t, []string{id}, came.Header["Keyfleet-Key-Id"])
			require.Equal(t, []string{"demo"}, came.Header["Keyfleet-Project"])
			require.Equal(t, "text/plain", came.Header.Get("Accept"))
			require.NotContains(t, body, good)
		}
		status, _, body := p.ask(t, "GET", "/", "", "X-Api-Key: "+good, "Authorization: Bearer dummy")
		require.Equal(t, http.StatusOK, status)
		require.NotContains(t, body, "dummy")
	})
	t.Run("refusals look as the verifier's own", func(t *testing.T) {
		for _, test := range []struct {
			status  int
			headers []string
		}{
			{401, nil},
			{401, []string{"X-Api-Key: noise"}},
			{401, []string{"X-Api-Key: " + apikey.Generate().Reveal()}},
			{403, []string{"X-Api-Key: " + elsewhere}},
			{503, []string{"X-Api-Key: " + good, "Keyfleet-Min-Seq: 999999999"}},
		} {
			direct, want, wantBody := askWith(t, http.DefaultClient, "GET", dev.Check+"/v1/check/demo/echo-model", "", test.headers...)
			require.Equal(t, test.status, direct)
			for _, method := range []string{"GET", "POST"} {
				status, header, body := p.ask(t, method, "/v1/x", strings.Repeat("x", 1<<10), test.headers...)
				require.Equal(t, test.status, status, body)
				for _, name := range []string{"Content-Type", "Cache-Control", "Www-Authenticate", "Retry-After"} {
					require.Equal(t, want[name], header[name], name)
				}
				require.Equal(t, wantBody, body)
			}
		}
	})
	t.Run("a deleted key is refused at once", func(t *testing.T) {
		for range 5 {
			status, _, _ := p.ask(t, "GET", "/", "", "X-Api-Key: "+doomed)
			require.Equal(t, http.StatusOK, status)
		}
		_, status := dev.keyfleet(t, "", "keys", "delete", "doomed", "--wait", "confirmed")
		require.Equal(t, statusDone, status)
		status, _, _ = p.ask(t, "GET", "/", "", "X-Api-Key: "+doomed)
		require.Equal(t, http.StatusUnauthorized, status)
	})
	t.Run("errors of the model are its own", func(t *testing.T) {
		for _, path := range []string{"/status/401", "/status/403", "/status/500", "/status/503", "/status/502"} {
			status, header, body := p.ask(t, "GET", path, "", "X-Api-Key: "+good)
			require.Equal(t, path, fmt.Sprint("/status/", status))
			require.Equal(t, "the model's own", body)
			require.NotContains(t, header, "Www-Authenticate")
		}
	})
	t.Run("tokens pass as they are made", func(t *testing.T) { p.stream(t, good) })
	t.Run("no tunnel but a WebSocket passes", func(t *testing.T) {
		status, _, body := p.ask(t, "GET", "/", "", "X-Api-Key: "+good, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
		require.Equal(t, http.StatusOK, status)
		require.NotContains(t, body, "h2c")
	})
	t.Run("a WebSocket passes", func(t *testing.T) { p.upgrade(t, good) })
	t.Run("without a verifier nothing passes", func(t *testing.T) {
		dev.kill()
		status, header, _ := p.ask(t, "GET", "/", "", "X-Api-Key: "+good)
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "1", header.Get("Retry-After"))
	})
	p.model.CloseClientConnections()
	for _, secret := range []string{good, elsewhere, doomed} {
		require.NotContains(t, p.log.String(), secret, "a secret in the proxy's log")
		require.NotContains(t, dev.stderr.String(), secret, "a secret in the log of dev")
	}
}

// stream asks for the next event only once it has the one before.
func (p *proxy) stream(t *testing.T, key string) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://model.test/stream", nil)
	require.NoError(t, err)
	r.Header.Set("X-Api-Key", key)
	answer, err := p.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for _, want := range []string{"data: 0", "", "data: 1", "", "data: 2"} {
		require.True(t, lines.Scan(), "%v", lines.Err())
		require.Equal(t, want, lines.Text())
		if want == "" {
			status, _, _ := p.ask(t, "GET", "/next", "", "X-Api-Key: "+key)
			require.Equal(t, http.StatusOK, status)
		}
	}
}

// upgrade has a connection through to the model, as WebSockets do.
func (p *proxy) upgrade(t *testing.T, key string) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://model.test/socket", nil)
	require.NoError(t, err)
	r.Header.Set("X-Api-Key", key)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "WebSocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	answer, err := p.Transport.RoundTrip(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	talk, ok := answer.Body.(io.ReadWriter)
	require.True(t, ok)
	heard := bufio.NewReader(talk)
	for _, said := range []string{"hello\n", "again\n"} {
		_, err := io.WriteString(talk, said)
		require.NoError(t, err)
		line, err := heard.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, said, line)
	}
}

func (p *proxy) ask(t *testing.T, method, path, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	return askWith(t, p.Client, method, "http://model.test"+path, body, headers...)
}

func askWith(t *testing.T, c *http.Client, method, url, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	answer, err := c.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, answer.Header, string(text)
}

// newKey makes a key that opens the deployments, once checks know it.
func (d *devProcess) newKey(t testing.TB, name string, deployments ...string) (secret, id string) {
	t.Helper()
	args := []string{"keys", "create", name, "--wait", "confirmed", "--json"}
	for _, deployment := range deployments {
		args = append(args, "--deployment", deployment)
	}
	out, status := d.keyfleet(t, "", args...)
	require.Equal(t, statusDone, status)
	var made registry.KeyReply
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	require.NoError(t, d.caughtUp(t.Context(), uint64(made.Seq)))
	return made.Secret, made.ID
}
