package keyindex

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections"
)

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	h := newHistory(t, newSeed())
	h.open()
	for range 50 {
		h.next(20)
	}
	for _, k := range h.keys {
		if !k.Exists() {
			continue
		}
		back, alias, err := decodeEntry(appendKey(nil, k))
		require.NoError(t, err)
		require.Zero(t, alias)
		requireKey(t, *k, back)
	}
	bytes, err := encodeCharter(&h.charter)
	require.NoError(t, err)
	charter, err := decodeCharter(bytes)
	require.NoError(t, err)
	require.Equal(t, h.charter, charter)
	position, digest, err := decodePosition(encodePosition(h.position, events.Digest{7}))
	require.NoError(t, err)
	require.Equal(t, h.position, position)
	require.Equal(t, events.Digest{7}, digest)
}

func TestRecordOfANewerFormIsRefused(t *testing.T) {
	record := appendKey(nil, &projections.Key{Rev: 1})
	record[0] = 9
	_, _, err := decodeEntry(record)
	require.ErrorIs(t, err, errRecord)
}

// Whatever decodes is encoded to the same bytes again: one form for one content.
func FuzzRecord(f *testing.F) {
	f.Add(appendKey(nil, &projections.Key{
		ID: events.KeyID{1}, Rev: 3, Project: "demo", Digest: events.Digest{2}, Foreign: true, Expired: true, Disabled: true,
		Grace:       projections.Grace{Digest: events.Digest{3}, Until: 9},
		Deployments: []events.DeploymentID{{1}, {2}}, ExpiresAt: events.Never, Role: "owner", Scope: "*",
	}))
	f.Add(appendKey(nil, &projections.Key{Rev: 1}))
	f.Add(appendAlias(nil, events.Digest{1}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var k projections.Key
		var alias events.Digest
		var err error
		fuzztest.Frugally(t, len(data), 0, func() { k, alias, err = decodeEntry(data) })
		switch {
		case err != nil:
			require.ErrorIs(t, err, errRecord)
		case len(data) > 0 && data[0] == aliasForm:
			require.True(t, bytes.Equal(data, appendAlias(nil, alias)))
		default:
			require.True(t, bytes.Equal(data, appendKey(nil, &k)))
		}
	})
}

func FuzzMeta(f *testing.F) {
	f.Add(encodePosition(events.Position{Seq: 1}, events.Digest{2}))
	f.Add(encodeDeployment(&projections.Deployment{Rev: 1, Name: "echo"}))
	charter, err := encodeCharter(&projections.Charter{Settings: map[string]string{"lease": "10m"}, SigningKeys: []events.PublicKey{{1}}})
	require.NoError(f, err)
	f.Add(charter)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzztest.Frugally(t, len(data), fuzztest.Msgpack, func() {
			_, _, _ = decodePosition(data)
			_, _ = decodeDeployment(data)
			_, _ = decodeCharter(data)
		})
		if p, digest, err := decodePosition(data); err == nil {
			require.True(t, bytes.Equal(data, encodePosition(p, digest)))
		}
		if d, err := decodeDeployment(data); err == nil {
			require.True(t, bytes.Equal(data, encodeDeployment(&d)))
		}
		if c, err := decodeCharter(data); err == nil {
			_, err := encodeCharter(&c)
			require.NoError(t, err)
		}
	})
}
