package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry/httpapi"
)

// TestOpenAPI finds every route in the document, every reference answered, and the members that callers send and read.
func TestOpenAPI(t *testing.T) {
	h := leadingHub(t)
	got := h.send(t, "", http.MethodGet, "/openapi.json", "")
	require.Equal(t, http.StatusOK, got.status)
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(got.body), &doc))
	assert.Equal(t, "3.1.0", doc.OpenAPI)
	calls := 0
	for _, at := range doc.Paths {
		calls += len(at)
	}
	assert.Len(t, httpapi.Routes(), calls)
	for _, route := range httpapi.Routes() {
		assert.Contains(t, doc.Paths[route.Path], strings.ToLower(route.Method))
	}
	for _, part := range strings.Split(got.body, `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		assert.Contains(t, doc.Components.Schemas, name)
	}
	for name, members := range map[string]string{
		"KeyReply":   "id name description created_at expires_at deployment_names hint status rev seq last_used_at secret confirmation",
		"CreateBody": "name description expires_at deployment_names digest hint role scope",
		"KeyBody":    "name description expires_at deployment_names",
		"ErrorBody":  "exception_class message request_id invalid_fields",
	} {
		for _, member := range strings.Fields(members) {
			assert.Contains(t, doc.Components.Schemas[name].Properties, member, name)
		}
	}
	page := h.send(t, "", http.MethodGet, "/docs/api", "")
	assert.Contains(t, page.body, "<b>DELETE</b> <code>/cloud/v3/inference/{project}/api_keys/{name}</code>")
	assert.Contains(t, page.header.Get("Content-Security-Policy"), "default-src 'none'")
}
