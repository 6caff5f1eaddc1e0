package keyindex

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

func small(fs vfs.FS) Options { return Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10, FS: fs} }

func openIndex(t testing.TB, dir string, opts Options) *Index {
	t.Helper()
	idx, err := Open(dir, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, idx.Close()) })
	return idx
}

func newSeed() uint64 { return uint64(time.Now().UnixNano()) }

func TestIndexIsTheFoldOfTheLog(t *testing.T) {
	for range 4 {
		h := newHistory(t, newSeed())
		dir := t.TempDir()
		idx, err := Open(dir, small(nil))
		require.NoError(t, err)
		require.NoError(t, idx.Apply([]events.Entry{h.open()}))
		for round := range 40 {
			var entries []events.Entry
			for range 1 + h.r.IntN(4) {
				entries = append(entries, h.next(1+h.r.IntN(30)))
			}
			require.NoError(t, idx.Apply(entries))
			if round%8 == 0 {
				h.requireSame(idx)
			}
			if round%10 == 9 {
				require.NoError(t, idx.Close())
				idx, err = Open(dir, small(nil))
				require.NoError(t, err)
			}
		}
		h.requireSame(idx)
		require.NoError(t, idx.Close())
	}
}

// However the log is cut into batches, the bytes stored are the same.
func TestContentDependsOnThePrefixAlone(t *testing.T) {
	h := newHistory(t, newSeed())
	entries := []events.Entry{h.open()}
	for range 60 {
		entries = append(entries, h.next(8))
	}
	whole := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, whole.Apply(entries))
	single := openIndex(t, t.TempDir(), small(nil))
	for i := range entries {
		require.NoError(t, single.Apply(entries[i:i+1]))
	}
	require.Equal(t, dump(t, whole), dump(t, single))
	h.requireSame(whole)
}

func TestCrashLeavesAnExactPrefix(t *testing.T) {
	h := newHistory(t, newSeed())
	mem := vfs.NewCrashableMem()
	idx, err := Open("idx", small(mem))
	require.NoError(t, err)
	log := []events.Entry{h.open()}
	prefix := map[events.Seq]map[string]string{0: {}}
	require.NoError(t, idx.Apply(log))
	prefix[idx.Position().Seq] = dump(t, idx)
	crashes, lost, kept := 0, 0, 0
	for range 120 {
		log = append(log, h.next(60))
		require.NoError(t, idx.Apply(log[len(log)-1:]))
		prefix[idx.Position().Seq] = dump(t, idx)
		if h.r.IntN(6) > 0 {
			continue
		}
		crashes++
		crashed := mem.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: h.r.IntN(101), RNG: rand.New(rand.NewPCG(h.r.Uint64(), 2)),
		})
		after, err := Open("idx", small(crashed))
		require.NoError(t, err)
		position := after.Position()
		want, isPrefix := prefix[position.Seq]
		require.True(t, isPrefix, "Seq %d is behind no batch", position.Seq)
		require.Equal(t, want, dump(t, after))
		if position.Seq < h.position.Seq {
			lost++
		}
		if position.Seq > 0 {
			kept++
		}
		require.NoError(t, after.Apply(behind(log, position)))
		require.Equal(t, dump(t, idx), dump(t, after), "replay makes up for what was lost")
		require.NoError(t, after.Close())
	}
	require.NoError(t, idx.Close())
	t.Logf("%d crashes, %d lost something, %d kept something", crashes, lost, kept)
	require.Positive(t, lost)
}

func behind(log []events.Entry, p events.Position) []events.Entry {
	for i := range log {
		if log[i].Commit.First > p.Seq {
			return log[i:]
		}
	}
	return nil
}

func TestMisfitAppliesNothing(t *testing.T) {
	h := newHistory(t, 1)
	idx := openIndex(t, t.TempDir(), small(nil))
	dep, a := events.DeploymentID(h.id()), events.KeyID(h.id())
	digest, graced := events.Digest(h.bytes32()), events.Digest(h.bytes32())
	require.NoError(t, idx.Apply([]events.Entry{h.open(), h.commit(
		h.tell("demo", dep, &events.DeploymentRegistered{Name: "echo", Host: "echo.test"}),
		h.tell("demo", a, &events.Created{Digest: graced}),
		h.tell("demo", a, &events.Rotated{Digest: digest, GraceUntil: 100}),
	)}))
	before := dump(t, idx)
	for name, e := range map[string]events.Event{
		"revision":      {Project: "demo", Subject: a, Rev: 7, Fact: &events.Disabled{}},
		"unknown key":   {Project: "demo", Subject: h.id(), Rev: 2, Fact: &events.Disabled{}},
		"created again": {Project: "demo", Subject: a, Rev: 1, Fact: &events.Created{Digest: h.bytes32()}},
		"secret taken":  {Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.Created{Digest: digest}},
		"secret graced": {Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.Created{Digest: graced}},
		"name taken":    {Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.DeploymentRegistered{Name: "echo"}},
		"host taken":    {Project: "other", Subject: h.id(), Rev: 1, Fact: &events.DeploymentRegistered{Name: "echo", Host: "echo.test"}},
		"unregistered":  {Project: "demo", Subject: h.id(), Rev: 2, Fact: &events.DeploymentRemoved{}},
		"log opened":    {Fact: &events.LogOpened{}},
	} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.t = t
			good := events.Event{Project: "demo", Subject: a, Rev: 3, Fact: &events.Disabled{}}
			entries := []events.Entry{h.commit(good), h.commit(e)}
			require.ErrorIs(t, idx.Apply(entries), projections.ErrMisfit)
			require.Equal(t, before, dump(t, idx))
			k, err := idx.Find(digest)
			require.NoError(t, err)
			require.False(t, k.Disabled)
		})
	}
	gap := *h
	gap.position.Seq++
	require.ErrorIs(t, idx.Apply([]events.Entry{gap.commit(h.step())}), events.ErrGap)
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	openIndex(t, dir, small(nil))
	_, err := Open(dir, small(nil))
	require.ErrorContains(t, err, "another verifier has it open")
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	openIndex(t, dir, small(nil))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestOtherDirectoriesAreRefusedAndLeftAlone(t *testing.T) {
	for name, file := range map[string][2]string{
		"not an index": {"thesis.txt", "years of work"},
		"newer":        {formatFile, "keyfleet keyindex 3\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, file[0])
			require.NoError(t, os.WriteFile(path, []byte(file[1]), 0o600))
			_, err := Open(dir, small(nil))
			require.ErrorContains(t, err, "give")
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, file[1], string(content))
			names, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, names, 1)
		})
	}
}

func TestNewerLogSchemaIsRefused(t *testing.T) {
	h := newHistory(t, 1)
	dir := t.TempDir()
	idx, err := Open(dir, small(nil))
	require.NoError(t, err)
	raised := events.Event{Fact: &events.SchemaRaised{Schema: events.Schema + 1}}
	require.NoError(t, idx.Apply([]events.Entry{h.open(), h.commit(raised)}))
	require.NoError(t, idx.Close())
	_, err = Open(dir, small(nil))
	require.ErrorIs(t, err, events.ErrUnknownSchema)
}

func TestDamageIsReportedAndRebuilt(t *testing.T) {
	h := newHistory(t, newSeed())
	dir := t.TempDir()
	idx, err := Open(dir, small(nil))
	require.NoError(t, err)
	log := []events.Entry{h.open()}
	for range 100 {
		log = append(log, h.next(20))
	}
	require.NoError(t, idx.Apply(log))
	require.NoError(t, idx.Close())

	tables, err := filepath.Glob(filepath.Join(dir, storeDir, "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	for _, table := range tables {
		bytes, err := os.ReadFile(table)
		require.NoError(t, err)
		for i := 100; i < len(bytes)/2; i += 512 { // the blocks of data come first
			bytes[i] ^= 0x40
		}
		require.NoError(t, os.WriteFile(table, bytes, 0o600))
	}

	opts, heard := small(nil), 0
	opts.OnCorruption = func(error) { heard++ }
	idx, err = Open(dir, opts)
	require.NoError(t, err)
	if idx.Position().Seq > 0 { // the damage is met only by reading the keys
		for _, k := range h.keys {
			_, _ = idx.Find(k.Digest)
		}
		require.FileExists(t, filepath.Join(dir, corruptFile))
		require.Equal(t, 1, heard)
		_ = idx.Close()
		idx, err = Open(dir, opts)
		require.NoError(t, err)
	}
	require.NoFileExists(t, filepath.Join(dir, corruptFile))
	require.Zero(t, idx.Position())
	require.NoError(t, idx.Apply(log))
	h.requireSame(idx)
	require.NoError(t, idx.Close())
}

// A power cut can leave a store without the file that lists its tables.
func TestStoreThatLacksAFileBeginsEmpty(t *testing.T) {
	h := newHistory(t, newSeed())
	dir := t.TempDir()
	idx, err := Open(dir, small(nil))
	require.NoError(t, err)
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	require.NoError(t, idx.Close())
	manifests, err := filepath.Glob(filepath.Join(dir, storeDir, "MANIFEST-*"))
	require.NoError(t, err)
	require.NotEmpty(t, manifests)
	for _, manifest := range manifests {
		require.NoError(t, os.Remove(manifest))
	}
	idx = openIndex(t, dir, small(nil))
	require.Zero(t, idx.Position())
}

func TestDamageIsToldOnce(t *testing.T) {
	h := newHistory(t, 1)
	dir, heard := t.TempDir(), 0
	opts := small(nil)
	opts.OnCorruption = func(error) { heard++ }
	idx, err := Open(dir, opts)
	require.NoError(t, err)
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	bad := events.Digest{1}
	require.NoError(t, idx.db.Set(digestKey(bad), []byte("no record"), pebble.NoSync))
	for range 3 {
		_, err = idx.Find(bad)
		require.ErrorIs(t, err, errRecord)
	}
	require.Equal(t, 1, heard)
	require.FileExists(t, filepath.Join(dir, corruptFile))
	require.NoError(t, idx.Close())
	idx = openIndex(t, dir, opts)
	require.Zero(t, idx.Position())
	require.NoFileExists(t, filepath.Join(dir, corruptFile))
}

func TestClosedIndexAnswersNothing(t *testing.T) {
	idx := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, idx.Close())
	_, err := idx.Find(events.Digest{1})
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, idx.Apply(nil), ErrClosed)
	require.NoError(t, idx.Close())
}
