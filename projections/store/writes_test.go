package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// TestCommit: whatever order Pebble is given writes in, they come to what they come to one after another.
func TestCommit(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	key := func() []byte { // some are the beginning of others, and share more or less of them
		key := []byte{byte('A' + r.IntN(2))}
		for range r.IntN(12) {
			key = append(key, byte(r.IntN(10)/9))
		}
		return key
	}
	for range 200 {
		db, err := Open("", Options{FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
		require.NoError(t, err)
		want, ranges := map[string]string{}, r.IntN(2) == 0
		for range 3 {
			changes := make([]*Writes, 1+r.IntN(3))
			for i := range changes {
				w := &Writes{}
				for range r.IntN(100) {
					key := key()
					switch n := r.IntN(10); {
					case n < 6:
						value := fmt.Append(nil, r.Uint64())
						w.Set(key, value)
						want[string(key)] = string(value)
					case n < 9 || !ranges:
						w.Delete(key)
						delete(want, string(key))
					default:
						end := append(bytes.Clone(key), 1)
						w.DeleteRange(key, end)
						maps.DeleteFunc(want, func(k, _ string) bool { return k >= string(key) && k < string(end) })
					}
				}
				changes[i] = w
			}
			require.NoError(t, db.Commit(changes...))
		}
		got := map[string]string{}
		it, err := db.NewIter(nil)
		require.NoError(t, err)
		for ok := it.First(); ok; ok = it.Next() {
			got[string(it.Key())] = string(it.Value())
		}
		require.NoError(t, it.Close())
		require.Equal(t, want, got)
		require.NoError(t, db.Close())
	}
}

// TestOrder: Pebble sorts nothing any more, however much keys have in common.
func TestOrder(t *testing.T) {
	changes := []*Writes{{}, {}}
	for n := range 1000 {
		changes[n/500].Set(fmt.Appendf(nil, "Nacme\x00key-%d", rand.IntN(500)), nil)
	}
	places := inOrder(changes)
	require.Len(t, places, 1000)
	for i := range places[1:] {
		a, b := places[i], places[i+1]
		order := bytes.Compare(changes[a.of].key(int(a.at)), changes[b.of].key(int(b.at)))
		require.True(t, order < 0 || order == 0 && (a.of < b.of || a.of == b.of && a.at < b.at))
	}
}
