package httpapi_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/registry/httpapi"
)

// FuzzCalls: whatever an owner of everything sends, the registry answers in JSON, finds no fault of its own, takes no more memory than
// the call is worth, and writes no header that is more than one line.
func FuzzCalls(f *testing.F) {
	h := leadingHub(f)
	api := httpapi.New(h.Service, slog.New(slog.DiscardHandler))
	const keys = "/cloud/v3/inference/acme/api_keys"
	for _, seed := range [][4]string{
		{"POST", keys, `{"name":"demo-key","description":"<b>\u001b[2J","expires_at":"2027-01-31","deployment_names":[]}`, "id-1"},
		{"GET", keys + "?limit=1&offset=0&order_by=-name&search=%25", "", ""},
		{"PATCH", keys + "/demo-key", `{"description":null,"expires_at":null}`, `"1"`},
		{"POST", keys + "/demo-key/rotate", `{"grace":"24h"}`, ""},
		{"DELETE", keys + "/demo-key?wait=confirmed&wait_timeout=0s", "", ""},
		{"GET", keys + "/demo-key/events", "", ""},
		{"POST", "/cloud/v3/inference/acme/deployments", `{"name":"llama","upstream":"http://up","host":"llama.test"}`, ""},
		{"PATCH", "/cloud/v3/inference/acme/deployments/llama", `{"api_keys":["demo-key"]}`, "*"},
		{"GET", "/v1/fleet/confirmations/1", "", ""},
		{"POST", "/v1/import", `{"name":"from-elsewhere"}` + "\n", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, method, target, body, header string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || len(body) > 1<<16 || strings.Contains(u.RawQuery, "wait") {
			return
		}
		r, err := http.NewRequestWithContext(t.Context(), method, u.String(), strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Authorization", "APIKey "+h.admins["root"])
		r.Header.Set("Idempotency-Key", header)
		r.Header.Set("If-Match", header)
		w := httptest.NewRecorder()
		fuzztest.Frugally(t, len(body), 64<<20, func() { api.ServeHTTP(w, r) }) // with what the registry does meanwhile
		require.Less(t, w.Code, http.StatusInternalServerError, w.Body)
		require.True(t, utf8.Valid(w.Body.Bytes()))
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && method != http.MethodHead {
			require.True(t, json.Valid(w.Body.Bytes()), w.Body)
		}
		for name, values := range w.Header() {
			require.NotContains(t, strings.Join(values, ""), "\n", name)
		}
	})
}
