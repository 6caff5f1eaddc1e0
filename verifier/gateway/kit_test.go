package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

// revocable is a fleet whose good key can be revoked, and that can be unable to tell.
type revocable struct {
	fleet
	reason atomic.Int64 // of refusing the good key
}

func (r *revocable) Check(ctx context.Context, ask verifier.Request) verifier.Answer {
	a := r.fleet.Check(ctx, ask)
	if reason := projections.Reason(r.reason.Load()); reason != 0 && a.Allowed() {
		a.Reason = reason
	}
	return a
}

func (r *revocable) refuse(reason projections.Reason) { r.reason.Store(int64(reason)) }

// serveAs has a gateway with the options before an upstream.
func serveAs(t *testing.T, upstream http.HandlerFunc, opts Options) (*httptest.Server, *revocable) {
	t.Helper()
	up := httptest.NewUnstartedServer(upstream)
	up.Start()
	t.Cleanup(up.Close)
	f := &revocable{fleet: fleet{"echo": {Name: "echo", Upstream: up.URL}}}
	opts.Project = "demo"
	handler := New(f, opts)
	server := httptest.NewUnstartedServer(handler)
	server.Config = NewServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	server.Client().Timeout = time.Minute
	return server, f
}

func ask(t *testing.T, server *httptest.Server, path string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	require.NoError(t, err)
	r.Header.Set("X-Api-Key", "good")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := server.Client().Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return reply{answer.StatusCode, answer.ProtoMajor, answer.Header, answer.Body}
}
