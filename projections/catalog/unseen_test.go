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
	u.turn()
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

// TestUnseenForgets: what comes and goes does not fill memory, and what stays is never unseen.
func TestUnseenForgets(t *testing.T) {
	const stay, each, spare = 5000, 5000, 1000
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	key := func(n int) []byte { return binary.BigEndian.AppendUint64([]byte{digestSpace}, uint64(n)) }
	u := newUnseen()
	u.spare = spare
	put := func(n int) {
		u.put(key(n))
		require.NoError(t, db.Set(key(n), nil, pebble.NoSync))
	}
	for n := range stay {
		put(n)
	}
	require.NoError(t, u.takeIn(db, nil))
	u.turn()
	renewed := 0
	for round := range 50 {
		if u.renew() {
			renewed++
			require.False(t, u.renew(), "one at a time")
			require.NoError(t, u.takeIn(db, nil))
			put(stay + renewed - 1) // which was not read
			u.turn()
		}
		first := 1 << 20 * (round + 1)
		for n := range each {
			put(first + n)
		}
		for n := range each {
			require.NoError(t, db.Delete(key(first+n), pebble.NoSync))
			u.remove(key(first + n))
		}
		require.Less(t, u.recent.Len()+u.stored.Len(), 2*(2*stay+2*each+spare))
		for n := range stay + renewed {
			require.False(t, u.has(key(n)))
		}
	}
	require.Greater(t, renewed, 5)
	require.Less(t, renewed, 40)
	u.spare = -1 << 40
	require.True(t, u.renew())
	put(1)
	put(2 << 20)
	u.failed.Store(true) // what is stored cannot be read: things stay as they are
	u.turn()
	for _, n := range []int{1, stay, 2 << 20} {
		require.False(t, u.has(key(n)))
	}
	require.NoError(t, db.Close())
}
