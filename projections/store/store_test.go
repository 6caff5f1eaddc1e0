package store

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// full is a disk without room, while it is set, and how often that was felt.
type full struct {
	now  atomic.Bool
	felt atomic.Int64
}

func (f *full) MaybeError(op errorfs.Op) error {
	if !f.now.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite || !strings.HasSuffix(op.Path, ".sst") {
		return nil
	}
	f.felt.Add(1)
	return syscall.ENOSPC
}

func (*full) String() string { return "a full disk" }

// TestAFullDisk: who flushes hears of it, what was written is still to be read, and it is written once there is room again.
func TestAFullDisk(t *testing.T) {
	disk, logged := &full{}, &bytes.Buffer{}
	db, err := Open("", Options{
		FS: errorfs.Wrap(vfs.NewMem(), disk), CacheBytes: 1 << 20, MemTableBytes: 1 << 20,
		Log: slog.New(slog.NewTextHandler(logged, nil)),
	})
	require.NoError(t, err)
	require.NoError(t, db.Set([]byte("key"), []byte("value"), pebble.NoSync))

	disk.now.Store(true)
	require.ErrorIs(t, db.Flush(), syscall.ENOSPC)
	require.ErrorIs(t, db.Flush(), syscall.ENOSPC)
	value, closer, err := db.Get([]byte("key"))
	require.NoError(t, err)
	require.Equal(t, "value", string(value))
	require.NoError(t, closer.Close())
	require.Less(t, disk.felt.Load(), int64(20), "attempts have to be apart")

	disk.now.Store(false)
	require.NoError(t, db.Flush())
	require.NoError(t, db.Close())
	require.Equal(t, 1, strings.Count(logged.String(), "\n"), logged)
	require.Contains(t, logged.String(), "no space left on device")
}

// TestClosedOnAFullDisk: an end is an end.
func TestClosedOnAFullDisk(t *testing.T) {
	disk := &full{}
	db, err := Open("", Options{FS: errorfs.Wrap(vfs.NewMem(), disk), CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, db.Set([]byte("key"), []byte("value"), pebble.NoSync))
	disk.now.Store(true)
	require.ErrorIs(t, db.Flush(), syscall.ENOSPC)
	require.NoError(t, db.Close())
}
