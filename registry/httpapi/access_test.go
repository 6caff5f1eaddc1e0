package httpapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/httpapi"
)

// TestAccess has every role call every route in its own project, in another and in the system's.
func TestAccess(t *testing.T) {
	h := leadingHub(t)
	rank := map[string]int{"viewer": 1, "editor": 2, "owner": 3}
	for _, route := range httpapi.Routes() {
		needs := rank[string(route.Role)]
		require.NotZero(t, needs, "%s %s is open to nobody in particular", route.Method, route.Path)
		for _, project := range []string{"acme", "other", "_admin"} {
			path := strings.NewReplacer("{project}", project, "{name}", "no-such", "{seq}", "1").Replace(route.Path)
			ofProject := path != route.Path && strings.Contains(route.Path, "{project}")
			for admin, have := range rank {
				got := h.send(t, admin, route.Method, path, "").status
				refused := have < needs || (ofProject && project != "acme")
				assert.Equal(t, refused, got == http.StatusForbidden, "%s: %s %s: %d", admin, route.Method, path, got)
			}
			assert.NotEqual(t, http.StatusForbidden, h.send(t, "root", route.Method, path, "").status, "%s %s", route.Method, path)
			assert.Equal(t, http.StatusUnauthorized, h.send(t, "", route.Method, path, "").status, "%s %s", route.Method, path)
		}
	}
}

// TestAdminKeysLiveLikeOthers revokes, disables and ends admin keys: each is then answered as if it had never been.
func TestAdminKeysLiveLikeOthers(t *testing.T) {
	w := newWorld()
	h := startHub(t, w)
	<-h.opened
	const list = "/cloud/v3/inference/acme/api_keys"
	change := func(verb registry.Verb, r registry.Request) {
		_, err := h.Do(t.Context(), registry.Command{Project: registry.AdminProject, Actor: "_test", Verb: verb, Request: r})
		require.NoError(t, err)
	}
	soon := "2027-01-01T12:00:10Z"
	for name, end := range map[string]func(){
		"deleted":  func() { change(registry.KeyDelete, registry.Request{Key: "admin-deleted"}) },
		"disabled": func() { change(registry.KeyDisable, registry.Request{Key: "admin-disabled"}) },
		"expired": func() {
			change(registry.KeyExpire, registry.Request{Key: "admin-expired", ExpiresAt: &soon})
			w.clock.Advance(10 * time.Second)
		},
	} {
		h.admit(t, name, "viewer", "acme")
		require.Equal(t, http.StatusOK, h.send(t, name, http.MethodGet, list, "").status)
		end()
		gone := h.send(t, name, http.MethodGet, list, "")
		assert.Equal(t, http.StatusUnauthorized, gone.status, name)
		assert.Contains(t, gone.body, `"message":"show a living admin key: Authorization: APIKey kf_…"`)
	}
	// A key of a project is no admin key, whatever it opens.
	reply, err := h.Do(t.Context(), registry.Command{Project: "acme", Actor: "alice", Verb: registry.KeyCreate,
		Request: registry.Request{Name: "no-admin"}})
	require.NoError(t, err)
	key, ok := reply.(*registry.KeyReply)
	require.True(t, ok)
	h.admins["no-admin"] = key.Secret
	assert.Equal(t, http.StatusUnauthorized, h.send(t, "no-admin", http.MethodGet, list, "").status)
}

func TestSchemes(t *testing.T) {
	h := leadingHub(t)
	for _, scheme := range []string{"APIKey", "apikey", "APIKEY", "Bearer", "bearer"} {
		got := h.send(t, "", http.MethodGet, "/v1/fleet", "", "Authorization: "+scheme+" "+h.admins["viewer"])
		assert.Equal(t, http.StatusOK, got.status, scheme)
		assert.Equal(t, "no-store", got.header.Get("Cache-Control"))
		assert.Regexp(t, `^req_[0-9a-f]{32}$`, got.header.Get("X-Request-Id"))
	}
}

// TestStandby reads from a registry that does not lead, and may not write there.
func TestStandby(t *testing.T) {
	w := newWorld()
	first := startHub(t, w)
	<-first.opened
	first.admit(t, "root", "owner", "*")
	standby := startHub(t, w)
	standby.admins = first.admins
	const keys = "/cloud/v3/inference/acme/api_keys"
	made := first.send(t, "root", http.MethodPost, keys, `{"name":"demo-key"}`)
	require.Equal(t, http.StatusOK, made.status, made.body)
	seq := made.header.Get("Keyfleet-Seq")
	require.Eventually(t, func() bool {
		return standby.send(t, "root", http.MethodGet, keys, "").header.Get("Keyfleet-Seq") == seq
	}, 20*time.Second, time.Millisecond)

	got := standby.send(t, "root", http.MethodGet, keys+"/demo-key", "")
	assert.Equal(t, http.StatusOK, got.status, got.body)
	assert.Equal(t, "true", got.header.Get("Keyfleet-Standby"))
	got = standby.send(t, "root", http.MethodDelete, keys+"/demo-key", "")
	assert.Equal(t, http.StatusServiceUnavailable, got.status)
	assert.Equal(t, "1", got.header.Get("Retry-After"))
	got = standby.send(t, "root", http.MethodGet, "/v1/fleet", "")
	assert.Equal(t, http.StatusServiceUnavailable, got.status, "a standby hears of no verifier")

	first.stop()
	<-standby.opened
	got = standby.send(t, "root", http.MethodDelete, keys+"/demo-key", "")
	assert.Equal(t, http.StatusNoContent, got.status)
	assert.Empty(t, got.header.Get("Keyfleet-Standby"))
}

// TestImportIsBounded sends more lines than are ever under way, and one that is too long.
func TestImportIsBounded(t *testing.T) {
	h := leadingHub(t)
	var body strings.Builder
	const lines = 3000
	for i := range lines {
		fmt.Fprintf(&body, `{"name":"key-%04d","digest":"%064x"}`+"\n", i, i+1)
	}
	const path = "/cloud/v3/inference/acme/api_keys/import"
	got := h.send(t, "owner", http.MethodPost, path, body.String())
	require.Equal(t, http.StatusOK, got.status)
	reports := strings.Split(strings.TrimSpace(got.body), "\n")
	require.Len(t, reports, lines+1)
	for i, report := range reports[:lines] {
		require.Contains(t, report, fmt.Sprintf(`{"line":%d,"name":"key-%04d","id":"key_`, i+1, i))
	}
	require.Contains(t, reports[lines], `{"lines":3000,"imported":3000,"refused":0,"seq":3`)
	require.Equal(t, "application/x-ndjson", got.header.Get("Content-Type"))

	got = h.send(t, "owner", http.MethodPost, path, `{"name":"last-one","digest":"`+strings.Repeat("c", 64)+`"}`+"\n"+strings.Repeat(" ", 70<<10))
	require.Contains(t, got.body, `"imported":1,"refused":0`)
	require.Contains(t, got.body, `"ended":"line 2 has more than 65536 bytes"`)
}

// TestImportWaitsForNoLine: what has come is imported, though the caller has more to say.
func TestImportWaitsForNoLine(t *testing.T) {
	h := leadingHub(t)
	body, more := io.Pipe()
	const keys = "/cloud/v3/inference/acme/api_keys"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+keys+"/import", body)
	require.NoError(t, err)
	r.Header.Set("Authorization", "APIKey "+h.admins["owner"])
	report := make(chan string, 1)
	go func() {
		defer close(report)
		if reply, err := http.DefaultClient.Do(r); assert.NoError(t, err) {
			defer reply.Body.Close()
			text, err := io.ReadAll(reply.Body)
			assert.NoError(t, err)
			report <- string(text)
		}
	}()
	_, err = fmt.Fprintf(more, "\n"+`{"name":"first-key","digest":"%064x"}`+"\n"+`{"name":"last-key",`, 1)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return h.send(t, "viewer", http.MethodGet, keys+"/first-key", "").status == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond)
	_, err = fmt.Fprintf(more, `"digest":"%064x"}`, 2)
	require.NoError(t, err)
	require.NoError(t, more.Close())
	text := <-report
	require.Contains(t, text, `{"line":2,"name":"first-key",`)
	require.Contains(t, text, `{"line":3,"name":"last-key",`)
	require.Contains(t, text, `{"lines":2,"imported":2,"refused":0,`)
}

// TestPages finds every key once, page by page, in each order and both directions.
func TestPages(t *testing.T) {
	h := leadingHub(t)
	const keys, limit = 40, 7
	h.importKeys(t, 0, keys)
	for _, order := range []string{"name", "-name", "created_at", "-created_at", "expires_at", "-expires_at"} {
		found := map[string]bool{}
		for offset := 0; offset < keys+limit; offset += limit {
			got := h.send(t, "viewer", http.MethodGet, fmt.Sprintf("/cloud/v3/inference/acme/api_keys?limit=%d&offset=%d&order_by=%s", limit, offset, order), "")
			var page registry.KeyPage
			require.NoError(t, json.Unmarshal([]byte(got.body), &page))
			require.Equal(t, keys, page.Count)
			require.Len(t, page.Results, min(limit, max(0, keys-offset)), "%s at %d", order, offset)
			for i := range page.Results {
				found[page.Results[i].Name] = true
			}
		}
		require.Len(t, found, keys, order)
	}
}

func TestLargeBodies(t *testing.T) {
	h := leadingHub(t)
	got := h.send(t, "editor", http.MethodPost, "/cloud/v3/inference/acme/api_keys", `{"name":"`+strings.Repeat("x", 300<<10)+`"}`)
	assert.Equal(t, http.StatusBadRequest, got.status)
	assert.Contains(t, got.body, "the body has more than 262144 bytes")
}
