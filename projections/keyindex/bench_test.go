package keyindex

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

// BenchmarkApply creates keys that each open one deployment, in batches of so many events.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			h := newHistory(b, 1)
			idx := openIndex(b, b.TempDir(), Options{})
			require.NoError(b, idx.Apply([]events.Entry{h.open()}))
			dep := []events.DeploymentID{h.id()}
			var log []events.Entry
			for made := 0; made < b.N; made += size {
				es := make([]events.Event, size)
				for i := range es {
					es[i] = events.Event{Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.Created{
						Digest: h.bytes32(), Deployments: dep, ExpiresAt: events.Never,
					}}
				}
				log = append(log, h.commit(es...))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range log {
				if err := idx.Apply(log[i : i+1]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
