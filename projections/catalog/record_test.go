package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections"
)

// FuzzRecords: a damaged record is an error, whatever it announces.
func FuzzRecords(f *testing.F) {
	key, err := marshal(projections.Key{ID: events.KeyID{1}, Deployments: []events.DeploymentID{{2}}, Name: "demo-key"})
	require.NoError(f, err)
	charter, err := marshal(projections.Charter{SigningKeys: []events.PublicKey{{1}}, Settings: map[string]string{"lease": "10m"}})
	require.NoError(f, err)
	for _, seed := range [][]byte{key, charter, {0x91, 0xdd, 0xff, 0xff, 0xff, 0xff}, {0x81, 0xab, 'D', 'e', 'p', 'l', 'o', 'y', 'm', 'e', 'n', 't', 's', 0xdd, 0xff, 0xff, 0xff, 0xff}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzztest.Frugally(t, len(data), fuzztest.Msgpack, func() {
			var k projections.Key
			_ = unmarshal(data, &k)
			var c projections.Charter
			_ = unmarshal(data, &c)
		})
	})
}
