package catalog

import (
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections"
)

// FuzzRecords: a damaged record is an error, whatever it announces.
func FuzzRecords(f *testing.F) {
	key, err := marshal(&keyRecord{Key: projections.Key{ID: events.KeyID{1}, Deployments: []events.DeploymentID{{2}}, Name: "demo-key"}})
	require.NoError(f, err)
	charter, err := marshal(projections.Charter{SigningKeys: []events.PublicKey{{1}}, Settings: map[string]string{"lease": "10m"}})
	require.NoError(f, err)
	for _, seed := range [][]byte{key, charter, {0x91, 0xdd, 0xff, 0xff, 0xff, 0xff}, {0x81, 0xab, 'D', 'e', 'p', 'l', 'o', 'y', 'm', 'e', 'n', 't', 's', 0xdd, 0xff, 0xff, 0xff, 0xff}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzztest.Frugally(t, len(data), fuzztest.Msgpack, func() {
			var k keyRecord
			_ = unmarshal(data, &k)
			var c projections.Charter
			_ = unmarshal(data, &c)
		})
	})
}

// TestKeyRecord: every field comes back, but for the id.
func TestKeyRecord(t *testing.T) {
	want := keyRecord{Key: projections.Key{
		ID: events.KeyID{1}, Project: "acme", Rev: 2, Digest: events.Digest{3}, Foreign: true,
		Grace: projections.Grace{Digest: events.Digest{4}, Until: 5}, Deployments: []events.DeploymentID{{6}, {7}},
		ExpiresAt: 8, Expired: true, Disabled: true, Role: "viewer", Scope: "*", Name: "demo-key", Description: "a key", Hint: "kf_aaaa…zzzz",
		CreatedAt: 9, CreatedBy: "alice", UpdatedAt: 10, Seq: 11,
	}, StreamSeq: 12}
	for _, record := range []reflect.Value{reflect.ValueOf(want), reflect.ValueOf(want.Key)} {
		for i := range record.NumField() {
			require.False(t, record.Field(i).IsZero(), record.Type().Field(i).Name)
		}
	}
	for _, want := range []keyRecord{want, {Key: projections.Key{Rev: 1, ExpiresAt: events.Never}}} {
		data, err := marshal(&want)
		require.NoError(t, err)
		want.ID = events.KeyID{}
		var got keyRecord
		require.NoError(t, unmarshal(data, &got))
		require.Equal(t, want, got)
	}
	require.ErrorIs(t, unmarshal([]byte{0x91, 0xa0}, &keyRecord{}), errKeyFields)
}

// TestDamagedRecord: a Txn remembers what it has read, and no record that it could not read.
func TestDamagedRecord(t *testing.T) {
	c, err := Open("catalog", Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	id := events.KeyID{1}
	key := idKey(keySpace, id)
	c.unseen.put(key)
	require.NoError(t, c.db.Set(key, []byte{0x91, 0xa0}, pebble.NoSync))
	txn := c.Begin(1, 1, 5)
	for range 2 {
		_, err := txn.Key(id)
		require.ErrorIs(t, err, errKeyFields)
	}
	require.NoError(t, c.Close())
}
