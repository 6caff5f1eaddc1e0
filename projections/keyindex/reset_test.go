package keyindex

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

var errDoubt = errors.New("the fleet counts another digest")

// crashes keeps what a power cut would leave before each write to the disk.
type crashes struct {
	mem   *vfs.MemFS
	r     *rand.Rand
	mu    sync.Mutex
	armed bool
	left  []*vfs.MemFS
}

func (c *crashes) String() string { return "crashes" }

func (c *crashes) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		c.crash()
	}
	return nil
}

func (c *crashes) crash() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed {
		c.left = append(c.left, c.mem.CrashClone(vfs.CrashCloneCfg{
			// All that was written or only what was synced. Pebble itself does not always survive a mixture.
			UnsyncedDataPercent: c.r.IntN(2) * 100, RNG: rand.New(rand.NewPCG(c.r.Uint64(), 3)),
		}))
	}
}

// during gives what crashes within act, and after it, may leave.
func (c *crashes) during(act func()) []*vfs.MemFS {
	c.mu.Lock()
	c.armed = true
	c.mu.Unlock()
	act()
	c.crash()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	return c.left
}

func newCrashes(h *history) (*crashes, vfs.FS) {
	mem := vfs.NewCrashableMem()
	c := &crashes{mem: mem, r: h.r}
	return c, errorfs.Wrap(mem, c)
}

func TestResetBeginsEmpty(t *testing.T) {
	h := newHistory(t, newSeed())
	dir, opts := t.TempDir(), small(nil)
	opts.OnCorruption = func(err error) { t.Error(err) }
	idx, err := Open(dir, opts)
	require.NoError(t, err)
	log := []events.Entry{h.open()}
	for range 40 {
		log = append(log, h.next(20))
	}
	require.NoError(t, idx.Apply(log))
	ended := make(chan error)
	go func() { ended <- idx.Scrub(t.Context(), 1) }()
	require.NoError(t, idx.Reset(errDoubt))
	position, digest := idx.Digest()
	require.Zero(t, position)
	require.Zero(t, digest)
	require.Empty(t, dump(t, idx))
	require.Error(t, idx.Apply(log[1:]), "the log is read from the beginning")
	require.NoError(t, idx.Apply(log))
	h.requireSame(idx)
	require.NoError(t, idx.Close())
	if err := <-ended; err != nil { // nil: it came when there was nothing to read
		require.ErrorIs(t, err, ErrClosed)
	}
	require.ErrorIs(t, idx.Reset(errDoubt), ErrClosed)

	idx = openIndex(t, dir, opts)
	h.requireSame(idx)
	require.NoError(t, idx.Scrub(t.Context(), 0))
}

func TestCrashInResetLeavesAPrefixOrNothing(t *testing.T) {
	h := newHistory(t, newSeed())
	crashes, fs := newCrashes(h)
	idx := openIndex(t, "idx", small(fs))
	log := []events.Entry{h.open()}
	require.NoError(t, idx.Apply(log))
	prefix := map[events.Seq]map[string]string{0: {}, idx.Position().Seq: dump(t, idx)}
	for range 60 {
		log = append(log, h.next(60))
		require.NoError(t, idx.Apply(log[len(log)-1:]))
		prefix[idx.Position().Seq] = dump(t, idx)
	}
	require.NoError(t, idx.db.Flush()) // or there would be nothing to leave
	root, err := fs.OpenDir("/")
	require.NoError(t, err)
	require.NoError(t, errors.Join(root.Sync(), root.Close()))
	left := crashes.during(func() { require.NoError(t, idx.Reset(errDoubt)) })
	old := 0
	for i, fs := range left {
		after, err := Open("idx", small(fs))
		require.NoError(t, err)
		position := after.Position()
		require.Equal(t, prefix[position.Seq], dump(t, after))
		if position.Seq > 0 {
			require.Less(t, i, len(left)-1, "what is reset stays so")
			old++
		}
		require.NoError(t, after.Apply(behind(log, position)))
		h.requireSame(after)
		require.NoError(t, after.Close())
	}
	t.Logf("%d crashes, %d left the old index", len(left), old)
	require.Positive(t, old)
}
