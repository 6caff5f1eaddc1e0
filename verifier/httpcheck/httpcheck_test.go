package httpcheck

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

// decided answers every check alike, and keeps what was asked.
type decided struct {
	answer verifier.Answer
	asked  verifier.Request
}

func (d *decided) Check(_ context.Context, r verifier.Request) verifier.Answer {
	d.asked = r
	return d.answer
}

func answering(reason projections.Reason) *decided {
	return &decided{answer: verifier.Answer{
		Decision: projections.Decision{Reason: reason, Key: events.KeyID{1}, Project: "demo"},
		Seq:      42, Staleness: 1500 * time.Microsecond,
	}}
}

func request(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, failingBody{})
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// failingBody is never read.
type failingBody struct{}

func (failingBody) Read([]byte) (int, error) { panic("a body was read") }

func serve(t testing.TB, c Checker, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	h, err := New(c, Options{})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.NotEmpty(t, w.Header().Get(RequestIDHeader))
	return w
}

func problemIn(t testing.TB, w *httptest.ResponseRecorder) Problem {
	t.Helper()
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	var p Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, w.Code, p.Status)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Detail)
	require.Equal(t, p.Detail, p.Error.Message)
	require.NotEmpty(t, p.Error.Type)
	require.NotEmpty(t, p.Error.Code)
	return p
}

func TestAllowedCheck(t *testing.T) {
	for _, method := range []string{"GET", "POST", "HEAD", "DELETE", "OPTIONS", "BREW"} {
		c := answering(projections.Allowed)
		r := serve(t, c, request(method, "/v1/check/demo/echo", "x-api-key", "k", "Keyfleet-Min-Seq", "41"))
		require.Equal(t, 200, r.Code)
		require.Equal(t, events.KeyID{1}.String(), r.Header().Get("Keyfleet-Key-Id"))
		require.Equal(t, "demo", r.Header().Get("Keyfleet-Project"))
		require.Equal(t, "42", r.Header().Get("Keyfleet-Seq"))
		require.Equal(t, "1", r.Header().Get("Keyfleet-Staleness-Ms"))
		require.Empty(t, r.Header().Get("Keyfleet-Stale"))
		require.Equal(t, verifier.Request{Project: "demo", Deployment: "echo", Key: []byte("k"), MinSeq: 41}, c.asked)
	}
	stale := answering(projections.Allowed)
	stale.answer.Stale = true
	require.Equal(t, "true", serve(t, stale, request("GET", "/v1/check/demo/echo")).Header().Get("Keyfleet-Stale"))
}

func TestDeploymentNamedByHeaders(t *testing.T) {
	c := answering(projections.Allowed)
	serve(t, c, request("GET", "/v1/check", "Keyfleet-Project", "demo", "Keyfleet-Deployment", "echo"))
	require.Equal(t, verifier.Request{Project: "demo", Deployment: "echo"}, c.asked)
	serve(t, c, request("GET", "/v1/check/demo/echo", "Keyfleet-Project", "other", "Keyfleet-Deployment", "other"))
	require.Equal(t, verifier.Request{Project: "demo", Deployment: "echo"}, c.asked, "the path wins")
}

func TestWhatIsNoCheck(t *testing.T) {
	for _, test := range []struct {
		r    *http.Request
		want int
		code string
	}{
		{request("GET", "/v1/check"), 400, "deployment_not_named"},
		{request("GET", "/v1/check", "Keyfleet-Project", "demo"), 400, "deployment_not_named"},
		{request("GET", "/v1/check", "Keyfleet-Deployment", "echo"), 400, "deployment_not_named"},
		{request("GET", "/v1/check/demo/echo", "Keyfleet-Min-Seq", "soon"), 400, "invalid_min_seq"},
		{request("GET", "/"), 404, "not_found"},
		{request("GET", "/v1/checks"), 404, "not_found"},
		{request("GET", "/v1/checkdemo/echo"), 404, "not_found"},
		{request("GET", "/v1/check/"), 404, "not_found"},
		{request("GET", "/v1/check/demo"), 404, "not_found"},
		{request("GET", "/v1/check/demo/"), 404, "not_found"},
		{request("GET", "/v1/check//echo"), 404, "not_found"},
		{request("GET", "/v1/check/demo/echo/"), 404, "not_found"},
	} {
		r := serve(t, answering(projections.Allowed), test.r)
		require.Equal(t, test.want, r.Code, test.r.URL.Path)
		require.Equal(t, test.code, problemIn(t, r).Error.Code, test.r.URL.Path)
	}
}

func TestRefusals(t *testing.T) {
	bodies := map[string]int{}
	for _, reason := range projections.Reasons() {
		if reason == projections.Allowed {
			continue
		}
		r := serve(t, answering(reason), request("GET", "/v1/check/demo/echo"))
		require.Empty(t, r.Header().Get("Keyfleet-Key-Id"))
		body := r.Body.String()
		p := problemIn(t, r)
		require.NotContains(t, body, reason.String()+"\"", "the reason stays here")
		r.Header().Del(RequestIDHeader)
		headers, err := json.Marshal(r.Header())
		require.NoError(t, err)
		bodies[string(headers)+body] = p.Status
		switch reason.Class() {
		case projections.Unauthenticated:
			require.Equal(t, 401, p.Status)
			require.Equal(t, `Bearer realm="keyfleet"`, r.Header().Get("WWW-Authenticate"))
			require.Equal(t, "invalid_api_key", p.Error.Code)
		case projections.Forbidden:
			require.Equal(t, 403, p.Status)
			require.Equal(t, "42", r.Header().Get("Keyfleet-Seq"))
		case projections.Unavailable, projections.Pass:
			require.Equal(t, 503, p.Status)
			require.Equal(t, "1", r.Header().Get("Retry-After"))
		}
	}
	require.Len(t, bodies, 3, "one answer for each status, headers included")
}

func TestPresentedKey(t *testing.T) {
	for _, test := range []struct {
		want    string
		headers []string
	}{
		{"", nil},
		{"a", []string{"x-api-key", "a"}},
		{"b", []string{"Authorization", "Bearer b"}},
		{"b", []string{"authorization", "bEARER   b"}},
		{"a", []string{"x-api-key", "a", "Authorization", "Bearer b"}},
		{"b", []string{"x-api-key", "", "Authorization", "Bearer b"}},
		{"", []string{"Authorization", "Basic b"}},
		{"", []string{"Authorization", "Bearer"}},
		{"", []string{"Authorization", "b"}},
	} {
		require.Equal(t, test.want, string(PresentedKey(request("GET", "/", test.headers...).Header)), test.headers)
	}
}

func TestRequestIDIsRepeatedWhereItIsFit(t *testing.T) {
	get := func(sent string) string {
		return serve(t, answering(projections.Allowed), request("GET", "/v1/check/a/b", "X-Request-Id", sent)).Header().Get(RequestIDHeader)
	}
	require.Equal(t, "req-4711", get("req-4711"))
	for _, unfit := range []string{"", "two words", "línea", "a\x7f", strings.Repeat("x", maxRequestID+1)} {
		require.NotEqual(t, unfit, get(unfit))
		require.Len(t, get(unfit), 26)
	}
	require.NotEqual(t, get(""), get(""))
}

func TestMinSeq(t *testing.T) {
	inc := events.Incarnation(sha256.New().Sum(nil)[:16])
	seq := func(s string) events.Seq { _, seq, err := ParseMinSeq(s); require.NoError(t, err, s); return seq }
	require.Zero(t, seq(""))
	require.EqualValues(t, 7, seq("7"))
	require.EqualValues(t, uint64(1<<64-1), seq("18446744073709551615"))
	got, n, err := ParseMinSeq(inc.String() + ":9")
	require.NoError(t, err)
	require.Equal(t, inc, got)
	require.EqualValues(t, 9, n)
	for _, bad := range []string{"x", "-1", "+1", " 1", "1 ", "1.0", "18446744073709551616", ":", ":1", "1:1", inc.String(), inc.String() + ":", inc.String() + ":1:2", "0x1", "1_0"} {
		_, _, err := ParseMinSeq(bad)
		require.Error(t, err, bad)
	}
}

func FuzzMinSeq(f *testing.F) {
	for _, s := range []string{"", "7", "inc_04hmasw9nf6yz0000000000000:9", ":", "+1", "inc_:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		inc, seq, err := ParseMinSeq(s)
		switch {
		case err != nil:
			require.Zero(t, inc)
			require.Zero(t, seq)
		case s == "":
			require.Zero(t, seq)
		default:
			digits := s
			if !inc.IsZero() {
				digits = strings.TrimPrefix(s, inc.String()+":")
			}
			require.Regexp(t, `^[0-9]+$`, strings.TrimPrefix(digits, events.Incarnation{}.String()+":"))
		}
	})
}

func TestMetricsMayBeRegisteredOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	h, err := New(answering(projections.Allowed), Options{Metrics: registry})
	require.NoError(t, err)
	h.ServeHTTP(httptest.NewRecorder(), request("GET", "/v1/check/a/b"))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.EqualValues(t, 1, families[0].GetMetric()[0].GetHistogram().GetSampleCount())
	_, err = New(answering(projections.Allowed), Options{Metrics: registry})
	require.Error(t, err)
}

func TestServerHasLimits(t *testing.T) {
	s := NewServer(http.NotFoundHandler())
	require.NotZero(t, s.ReadHeaderTimeout)
	require.NotZero(t, s.IdleTimeout)
	require.NotZero(t, s.MaxHeaderBytes)
}

// FuzzChecks: whatever a caller sends, a refused key gets none of the answers that mean yes, and no header has two lines.
func FuzzChecks(f *testing.F) {
	f.Add("/v1/check/demo/echo-model", "kf_x", "Bearer dummy", "demo", "echo-model", "7", "id")
	f.Add("/v1/check", "", "bearer  kf_y", "\x1b[2J", "..", ":", "a b")
	h, err := New(answering(projections.Unknown), Options{})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, path, key, authorization, project, deployment, minSeq, id string) {
		r := request(http.MethodGet, "/")
		r.URL.Path = path
		for name, value := range map[string]string{KeyHeader: key, "Authorization": authorization, ProjectHeader: project,
			deploymentHeader: deployment, minSeqHeader: minSeq, "X-Request-Id": id} {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		sent := len(path) + len(key) + len(authorization) + len(project) + len(deployment) + len(minSeq) + len(id)
		fuzztest.Frugally(t, sent, 0, func() { h.ServeHTTP(w, r) })
		require.GreaterOrEqual(t, w.Code, http.StatusMultipleChoices)
		require.Less(t, w.Code, http.StatusInternalServerError)
		for name, values := range w.Header() {
			for _, value := range values {
				require.False(t, strings.ContainsAny(value, "\r\n"), name)
			}
		}
	})
}
