package httpcheck

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

type fares verifier.Status

func (f *fares) Status() verifier.Status { return verifier.Status(*f) }

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Code, string(body)
}

func TestAdmin(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "keyfleet_test", Help: "A test."}))
	s := &fares{
		State: verifier.Lapsed, Why: "not known fresh for <longer> than the lease", Staleness: 1500 * time.Millisecond,
		Position: events.Position{Seq: 42}, Newest: 44,
		Charter: projections.Charter{Term: 7, Settings: map[string]string{"lease": "10m"}},
	}
	h := NewAdmin(s, registry)

	code, body := get(t, h, "/livez")
	require.Equal(t, 200, code, body)
	code, body = get(t, h, "/readyz")
	require.Equal(t, 503, code)
	require.Contains(t, body, `"state":"lapsed","ready":false,"why":"not known fresh for`)
	require.Contains(t, body, `"staleness_ms":1500`)
	code, body = get(t, h, "/metrics")
	require.Equal(t, 200, code)
	require.Contains(t, body, "keyfleet_test 0")
	code, body = get(t, h, "/debug/")
	require.Equal(t, 200, code)
	for _, shown := range []string{"lapsed", "not answering", "&lt;longer&gt;", "<td>42", "<td>44", "lease", "10m", "<td>7"} {
		require.Contains(t, body, shown)
	}
	code, _ = get(t, h, "/debug/pprof/goroutine?debug=1")
	require.Equal(t, 200, code)
	code, _ = get(t, h, "/v1/check/demo/echo")
	require.Equal(t, 404, code)

	s.State, s.Ready, s.Why = verifier.Serving, true, ""
	code, body = get(t, h, "/readyz")
	require.Equal(t, 200, code, body)
	require.Contains(t, body, `"state":"serving","ready":true`)
	for _, s.State = range verifier.States() { // whoever restarts by /livez must not restart what is only cut off
		s.Ready = false
		code, _ = get(t, h, "/livez")
		require.Equal(t, 200, code, s.State)
		code, _ = get(t, h, "/readyz")
		require.Equal(t, 503, code, s.State)
	}
}
