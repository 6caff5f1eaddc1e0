package httpapi_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// importLines writes so many keys, from one that was not written before.
func importLines(from, n int) io.Reader {
	var b strings.Builder
	for i := range n {
		digest := sha256.Sum256(fmt.Append(nil, from+i))
		fmt.Fprintf(&b, `{"name":"key-%07d","digest":"%x","hint":"sk-%d"}`+"\n", from+i, digest, i)
	}
	return strings.NewReader(b.String())
}

// BenchmarkImport imports digests over HTTP, on a log in memory: what the registry itself costs.
func BenchmarkImport(b *testing.B) {
	h := leadingHub(b)
	const n = 100_000
	imported := 0
	for b.Loop() {
		h.importKeys(b, imported, n)
		imported += n
	}
	b.ReportMetric(float64(imported)/b.Elapsed().Seconds(), "keys/s")
}

func (h *hub) importKeys(t testing.TB, from, n int) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/cloud/v3/inference/acme/api_keys/import", importLines(from, n))
	require.NoError(t, err)
	r.Header.Set("Authorization", "APIKey "+h.admins["owner"])
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), fmt.Sprintf(`"imported":%d,"refused":0`, n))
}

// BenchmarkList asks for a hundred of a hundred thousand keys: the first, those in the middle, and those a search finds.
func BenchmarkList(b *testing.B) {
	h := leadingHub(b)
	h.importKeys(b, 0, 100_000)
	for name, query := range map[string]string{"first": "", "middle": "?offset=50000", "newest": "?order_by=-created_at", "search": "?search=key-00999"} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				begun := time.Now()
				got := h.send(b, "viewer", http.MethodGet, "/cloud/v3/inference/acme/api_keys"+query, "")
				took = append(took, time.Since(begun))
				require.Equal(b, http.StatusOK, got.status)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
