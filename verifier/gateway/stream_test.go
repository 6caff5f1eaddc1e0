package gateway

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/projections"
)

// endless streams until its caller is gone, which it then tells.
func endless(gone chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "data: begun\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}
}

func TestStreamsAreCutOnceTheKeyIsRefused(t *testing.T) {
	for _, reason := range []projections.Reason{projections.Unknown, projections.KeyExpired, projections.KeyDisabled, projections.NotAttached, projections.NoDeployment} {
		t.Run(reason.String(), func(t *testing.T) {
			gone := make(chan struct{}, 1)
			server, f := serveAs(t, endless(gone), Options{})
			answer := ask(t, server, "/echo/stream")
			require.Equal(t, http.StatusOK, answer.StatusCode)
			require.Equal(t, 2, answer.ProtoMajor)
			f.refuse(reason)
			said, err := io.ReadAll(answer.Body)
			require.Error(t, err, "a stream that is cut does not look as if it were whole")
			require.Equal(t, "data: begun\n", string(said))
			<-gone
		})
	}
}

func TestStreamsGoOnWhereNobodyCanTell(t *testing.T) {
	for name, test := range map[string]struct {
		reason projections.Reason
		finish bool
	}{
		"the lease is over":       {projections.NotFresh, false},
		"they were told they may": {projections.Unknown, true},
	} {
		t.Run(name, func(t *testing.T) {
			goOn := make(chan struct{})
			server, f := serveAs(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "one\n")
				_ = http.NewResponseController(w).Flush()
				<-goOn
				_, _ = io.WriteString(w, "two\n")
			}, Options{Finish: test.finish})
			answer := ask(t, server, "/echo/stream")
			f.refuse(test.reason)
			time.AfterFunc(3*recheckEvery, func() { close(goOn) })
			said, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			require.Equal(t, "one\ntwo\n", string(said))
		})
	}
}

func TestWhatWasNotForwardedYetIsRefused(t *testing.T) {
	p := &passage{verifier: &revocable{fleet: fleet{}}}
	ctx := context.WithValue(t.Context(), passageKey{}, p)
	near, far := net.Pipe()
	d := dialThenCheck(func(context.Context, string, string) (net.Conn, error) { return near, nil })
	_, err := d(ctx, "tcp", "model.test:80")
	require.ErrorContains(t, err, "no longer opens")
	_, err = far.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the connection is not kept")

	begun := make(chan struct{})
	server, f := serveAs(t, func(_ http.ResponseWriter, r *http.Request) { close(begun); <-r.Context().Done() }, Options{})
	go func() { <-begun; f.refuse(projections.KeyDisabled) }()
	answer := ask(t, server, "/echo/slow")
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode, "nothing was answered so far")
	require.NotEmpty(t, answer.Header.Get("Www-Authenticate"))
}

func TestCallersThatLeaveArePassedOn(t *testing.T) {
	gone := make(chan struct{}, 1)
	server, _ := serveAs(t, endless(gone), Options{})
	answer := ask(t, server, "/echo/stream")
	require.NoError(t, answer.Body.Close())
	<-gone
}

// parrot repeats every line, outside of HTTP.
func parrot(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.WriteHeader(http.StatusSwitchingProtocols)
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = io.Copy(c, rw)
}

// http1 speaks HTTP/1.1 to a server that can do better.
func http1(t *testing.T, server *httptest.Server) *http.Transport {
	t.Helper()
	transport, ok := server.Client().Transport.(*http.Transport)
	require.True(t, ok)
	transport = transport.Clone()
	transport.ForceAttemptHTTP2, transport.TLSClientConfig.NextProtos = false, []string{"http/1.1"}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// socket opens a WebSocket as far as a proxy sees one.
func socket(t *testing.T, server *httptest.Server, to string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/echo/socket", nil)
	require.NoError(t, err)
	r.Header = http.Header{"X-Api-Key": {"good"}, "Connection": {"Upgrade"}, "Upgrade": {to}}
	answer, err := http1(t, server).RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return reply{answer.StatusCode, answer.ProtoMajor, answer.Header, answer.Body}
}

func TestWebSocketsPassAndAreCut(t *testing.T) {
	server, f := serveAs(t, parrot, Options{})
	answer := socket(t, server, "WebSocket")
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	talk, ok := answer.Body.(io.ReadWriter)
	require.True(t, ok)
	_, err := io.WriteString(talk, "hello\n")
	require.NoError(t, err)
	heard := bufio.NewReader(talk)
	line, err := heard.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
	f.refuse(projections.Unknown)
	_, err = heard.ReadString('\n')
	require.Error(t, err)
}

func TestNoOtherTunnelPasses(t *testing.T) {
	server, _ := serveAs(t, tellTale, Options{})
	answer := socket(t, server, "h2c")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NotContains(t, strings.ToLower(string(body)), "h2c")
}

func TestHTTP2WithoutTLS(t *testing.T) {
	handler := New(fleet{}, Options{Project: "demo"})
	server := httptest.NewUnstartedServer(handler)
	server.Config = NewServer(handler)
	server.Start()
	defer server.Close()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(server.URL + "/echo/")
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, 2, answer.ProtoMajor)
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
}
