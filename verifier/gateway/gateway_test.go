package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

// fleet knows one key, named good, that opens every deployment but "shut".
type fleet map[string]*projections.Deployment

func (f fleet) Check(_ context.Context, r verifier.Request) verifier.Answer {
	a := verifier.Answer{Deployment: f[r.Deployment]}
	switch {
	case string(r.Key) != "good":
		a.Reason = projections.Unknown
		return a
	case a.Deployment == nil || r.Project != "demo":
		a.Reason = projections.NoDeployment
	case r.Deployment == "shut":
		a.Reason = projections.NotAttached
	default:
		a.Reason = projections.Allowed
	}
	a.Key, a.Project = events.KeyID{7}, "demo"
	return a
}

func (f fleet) DeploymentAt(_, host string) *projections.Deployment {
	for _, d := range f {
		if d.Host != "" && d.Host == host {
			return d
		}
	}
	return nil
}

// begin gives a gateway's address in front of an upstream.
func begin(t *testing.T, upstream http.HandlerFunc) (address string, f fleet) {
	up := httptest.NewServer(upstream)
	t.Cleanup(up.Close)
	f = fleet{
		"echo":    {Name: "echo", Upstream: up.URL + "/base", Host: "echo.example.org"},
		"shut":    {Name: "shut", Upstream: up.URL},
		"nowhere": {Name: "nowhere"},
		"gone":    {Name: "gone", Upstream: "http://127.0.0.1:1"},
	}
	server := httptest.NewServer(New(f, Options{Project: "demo"}))
	t.Cleanup(server.Close)
	return server.URL, f
}

type reply struct {
	StatusCode, ProtoMajor int
	Header                 http.Header
	Body                   io.ReadCloser
}

func send(t *testing.T, method, url string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(""))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return reply{answer.StatusCode, answer.ProtoMajor, answer.Header, answer.Body}
}

// tellTale answers with the request as it arrived.
func tellTale(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"uri": r.RequestURI, "header": r.Header, "host": r.Host})
}

func told(t *testing.T, answer reply) (uri string, h http.Header) {
	t.Helper()
	require.Equal(t, 200, answer.StatusCode)
	var tale struct {
		URI    string      `json:"uri"`
		Header http.Header `json:"header"`
	}
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&tale))
	return tale.URI, tale.Header
}

func TestForwardsWhatMayPass(t *testing.T) {
	gateway, _ := begin(t, tellTale)
	answer := send(t, "POST", gateway+"/echo/v1/chat%2Fx/completions?a=b&c=d",
		"X-Api-Key", "good", "Authorization", "Bearer dummy", "Keyfleet-Key-Id", "forged", "Keyfleet-Project", "forged",
		"keyfleet-anything", "forged", "X-Forwarded-For", "1.2.3.4", "X-Request-Id", "req-1", "Accept", "text/plain")
	uri, h := told(t, answer)
	require.Equal(t, "/base/v1/chat%2Fx/completions?a=b&c=d", uri)
	require.Equal(t, events.KeyID{7}.String(), h.Get("Keyfleet-Key-Id"))
	require.Equal(t, "demo", h.Get("Keyfleet-Project"))
	require.Equal(t, "req-1", h.Get("X-Request-Id"))
	require.Equal(t, "127.0.0.1", h.Get("X-Forwarded-For"))
	require.Equal(t, "text/plain", h.Get("Accept"))
	require.NotContains(t, h, "X-Api-Key")
	require.NotContains(t, h, "Authorization")
	require.NotContains(t, h, "Keyfleet-Anything")
	require.Equal(t, "req-1", answer.Header.Get("Keyfleet-Request-Id"))
}

func TestRoutes(t *testing.T) {
	gateway, _ := begin(t, tellTale)
	for path, want := range map[string]string{"/echo": "/base/", "/echo/": "/base/", "/echo/v1": "/base/v1", "/echo//v1": "/base//v1"} {
		uri, _ := told(t, send(t, "GET", gateway+path, "Authorization", "bearer good"))
		require.Equal(t, want, uri, path)
	}
	for _, host := range []string{"echo.example.org", "ECHO.example.org:8280", "echo.example.org."} {
		uri, _ := told(t, send(t, "GET", gateway+"/v1/models", "Host", host, "Authorization", "bearer good"))
		require.Equal(t, "/base/v1/models", uri, host)
	}
}

func TestRefusesAsChecksDo(t *testing.T) {
	gateway, _ := begin(t, func(http.ResponseWriter, *http.Request) { t.Error("this was not to be forwarded") })
	for _, test := range []struct {
		path, key string
		want      int
	}{
		{"/echo/v1", "", 401}, {"/echo/v1", "bad", 401}, {"/unknown/v1", "bad", 401}, {"/", "bad", 401},
		{"/shut/v1", "good", 403}, {"/unknown/v1", "good", 403}, {"/", "good", 403},
		{"/nowhere/v1", "good", 503}, {"/nowhere/v1", "bad", 401},
		{"/gone/v1", "good", 502},
		{"/echo/../shut", "good", 400}, {"/echo/%2e%2e/x", "good", 400}, {"/echo/a%2f..%2fx", "good", 400}, {`/echo/..\x`, "good", 400},
	} {
		answer := send(t, "GET", gateway+test.path, "X-Api-Key", test.key)
		require.Equal(t, test.want, answer.StatusCode, test.path)
		require.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"))
		require.NotEmpty(t, answer.Header.Get("Keyfleet-Request-Id"))
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		if test.want == 401 || test.want == 403 {
			w := httptest.NewRecorder()
			reason := map[int]projections.Reason{401: projections.Unknown, 403: projections.NotAttached}[test.want]
			httpcheck.Refuse(w, verifier.Answer{Decision: projections.Decision{Reason: reason}})
			require.Equal(t, w.Body.String(), string(body))
		}
	}
}

func TestPreflightNeedsNoKey(t *testing.T) {
	gateway, _ := begin(t, tellTale)
	answer := send(t, "OPTIONS", gateway+"/echo/v1/models", "Origin", "https://page.test",
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,x-api-key")
	require.Equal(t, 204, answer.StatusCode)
	require.Equal(t, "*", answer.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "POST", answer.Header.Get("Access-Control-Allow-Methods"))
	require.Equal(t, "authorization,x-api-key", answer.Header.Get("Access-Control-Allow-Headers"))
	require.Equal(t, 401, send(t, "OPTIONS", gateway+"/echo/v1/models").StatusCode, "not a preflight")
	answer = send(t, "GET", gateway+"/echo/v1", "Origin", "https://page.test")
	require.Equal(t, "*", answer.Header.Get("Access-Control-Allow-Origin"), "a page may read the refusal")
	answer = send(t, "GET", gateway+"/echo/v1", "Origin", "https://page.test", "X-Api-Key", "good")
	require.Equal(t, []string{"*"}, answer.Header.Values("Access-Control-Allow-Origin"))
}

func TestEventsStream(t *testing.T) {
	read := make(chan struct{})
	gateway, _ := begin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Access-Control-Allow-Origin", "https://page.test")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-read: // only once the caller has it
			case <-r.Context().Done():
				return
			}
		}
	})
	answer := send(t, "GET", gateway+"/echo/v1/stream", "X-Api-Key", "good", "Origin", "https://page.test")
	require.Equal(t, []string{"https://page.test"}, answer.Header.Values("Access-Control-Allow-Origin"), "the upstream's own")
	lines := bufio.NewScanner(answer.Body)
	for i := range 3 {
		require.True(t, lines.Scan())
		require.Equal(t, fmt.Sprintf("data: %d", i), lines.Text())
		read <- struct{}{}
	}
}
