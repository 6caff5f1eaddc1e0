package catalog

import (
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUnseen: nothing that was put is unseen, stored before or put since, of the rest, nearly all is.
func TestUnseen(t *testing.T) {
	const each = 10_000
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	key := func(n int) []byte { return binary.BigEndian.AppendUint64([]byte{commandSpace}, uint64(n)) }
	u := newUnseen()
	for n := range each {
		require.NoError(t, db.Set(key(n), nil, pebble.NoSync))
		u.put(key(each + n))
	}
	assert.False(t, u.has(key(2*each)), "nothing counts as unseen before all that is stored was read")
	require.NoError(t, u.takeIn(db, nil))
	wrong, missed := 0, 0
	for n := range 2 * each {
		if u.has(key(n)) {
			wrong++
		}
		if !u.has(key(2*each + n)) {
			missed++
		}
	}
	assert.Zero(t, wrong)
	assert.Less(t, missed, each/5)
	assert.False(t, u.has([]byte{projectSpace, 1}), "other spaces are not known of")
	require.NoError(t, db.Close())
}
