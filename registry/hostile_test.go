package registry_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry"
)

// FuzzLeaseCalls: whatever a verifier sends, the registry answers it alone, goes on leading, and grants nothing that another could use.
func FuzzLeaseCalls(f *testing.F) {
	for _, call := range []head.Call{
		{Renewal: head.Renewal{Join: &head.Join{Mode: events.ModeDeny, PoP: "\x1b[2J"}, Schema: 1, Ack: head.Ack{Instance: events.InstanceID{7}}}},
		{Goodbye: &head.Goodbye{Instance: events.InstanceID{7}}},
	} {
		data, err := json.Marshal(call)
		require.NoError(f, err)
		f.Add(data)
	}
	h := startHub(f, newWorld(), f.TempDir())
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzztest.Frugally(t, len(data), 64<<20, func() { // with what the registry does meanwhile
			var call head.Call
			if json.Unmarshal(data, &call) != nil {
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if call.Goodbye != nil {
				_ = h.Goodbye(ctx, "fra-1", *call.Goodbye)
			} else if signed, err := h.Renew(ctx, "fra-1", call.Renewal); err == nil {
				require.Len(t, signed, head.SignedBytes)
			} else {
				require.NotEmpty(t, registry.AsRefusal(err).Code)
			}
		})
		_, active := h.Active()
		require.True(t, active)
	})
}
