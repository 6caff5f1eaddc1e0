package slot_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/slot"
)

func reopen(t *testing.T, path string) (*slot.File, []byte) {
	t.Helper()
	f, record, err := slot.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f, record
}

func TestTheLastRecordIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slot")
	f, record := reopen(t, path)
	assert.Nil(t, record)
	for _, put := range [][]byte{[]byte("one"), bytes.Repeat([]byte{7}, slot.MaxRecord), {}, []byte("four")} {
		require.NoError(t, f.Put(put))
		require.NoError(t, f.Sync())
		require.NoError(t, f.Close())
		f, record = reopen(t, path)
		assert.Equal(t, string(put), string(record))
		assert.NotNil(t, record)
	}
	require.Error(t, f.Put(make([]byte, slot.MaxRecord+1)))
	_, _, err := slot.Open(path)
	require.ErrorIs(t, err, slot.ErrHeld)
}

// A write that was cut short anywhere leaves the record before it.
func TestATornRecordIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slot")
	f, _ := reopen(t, path)
	require.NoError(t, f.Put([]byte("the record before")))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, f.Put([]byte("the record after")))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	before = append(before, make([]byte, len(after)-len(before))...)[:len(after)]
	for cut := range len(after) {
		torn := append(bytes.Clone(after[:cut]), before[cut:]...)
		require.NoError(t, os.WriteFile(path, torn, 0o600))
		g, record := reopen(t, path)
		if !bytes.Equal(torn, after) {
			require.Equal(t, "the record before", string(record), "cut at %d", cut)
		}
		require.NoError(t, g.Close())
	}
	for _, garbage := range [][]byte{{1}, bytes.Repeat([]byte{0xff}, 10_000)} {
		require.NoError(t, os.WriteFile(path, garbage, 0o600))
		g, record := reopen(t, path)
		assert.Nil(t, record)
		require.NoError(t, g.Put([]byte("new")))
		require.NoError(t, g.Close())
	}
}

// FuzzOpen: whatever is in the file, a record comes out whole or not at all, and another can be put.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "slot")
	sample, _, err := slot.Open(path)
	require.NoError(f, err)
	require.NoError(f, sample.Put([]byte("one")))
	require.NoError(f, sample.Put([]byte("two")))
	require.NoError(f, sample.Close())
	whole, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "slot")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		f, record, err := slot.Open(path)
		require.NoError(t, err)
		require.LessOrEqual(t, len(record), slot.MaxRecord)
		require.True(t, record == nil || bytes.Contains(content, record))
		require.NoError(t, f.Put([]byte("new")))
		require.NoError(t, f.Close())
		_, record = reopen(t, path)
		require.Equal(t, "new", string(record))
	})
}
