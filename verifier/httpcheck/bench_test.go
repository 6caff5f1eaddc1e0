package httpcheck

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/projections"
)

// discarded is an answer that nobody reads.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d discarded) WriteHeader(int)             {}

// BenchmarkHandler is what a check over HTTP costs beside net/http and the decision.
func BenchmarkHandler(b *testing.B) {
	for name, reason := range map[string]projections.Reason{"allowed": projections.Allowed, "refused": projections.Unknown} {
		b.Run(name, func(b *testing.B) {
			h, err := New(answering(reason), Options{Metrics: prometheus.NewRegistry()})
			require.NoError(b, err)
			r := request(http.MethodGet, "/v1/check/demo/echo-model", "X-Api-Key", "kf_0123456789012345678901234567890123456789012345678")
			w := discarded{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, r)
			}
		})
	}
}
