package keyindex

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

const smallTables = 2 << 10

// exported is an export whose tables are files of fs.
type exported struct {
	paths    []string
	digests  map[[32]byte]bool
	position events.Position
	digest   events.Digest
}

func export(t *testing.T, idx *Index, fs vfs.FS, dir string) (x exported) {
	t.Helper()
	require.NoError(t, fs.MkdirAll(dir, 0o700))
	x.digests = map[[32]byte]bool{}
	var last []byte
	var err error
	x.position, x.digest, err = idx.Export(t.Context(), smallTables, func(_ context.Context, table Table) error {
		require.Negative(t, bytes.Compare(last, table.First))
		require.LessOrEqual(t, bytes.Compare(table.First, table.Last), 0)
		last = bytes.Clone(table.Last)
		path := fs.PathJoin(dir, fmt.Sprintf("%d.sst", len(x.paths)))
		x.paths = append(x.paths, path)
		x.digests[sha256.Sum256(table.Data)] = true
		return writeFile(fs, path, table.Data)
	})
	require.NoError(t, err)
	return x
}

func writeFile(fs vfs.FS, path string, data []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// grown is a log of enough for many small tables.
func grown(t *testing.T, commits int) (*history, []events.Entry) {
	h := newHistory(t, newSeed())
	log := []events.Entry{h.open()}
	for range commits {
		log = append(log, h.next(20))
	}
	return h, log
}

func TestInstallIsReplay(t *testing.T) {
	h, log := grown(t, 120)
	replayed := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, replayed.Apply(log))
	x := export(t, replayed, vfs.Default, t.TempDir())
	require.Greater(t, len(x.paths), 5)

	for name, before := range map[string][]events.Entry{"empty": nil, "behind": log[:50]} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			idx, err := Open(dir, small(nil))
			require.NoError(t, err)
			require.NoError(t, idx.Apply(before))
			require.NoError(t, idx.Install(t.Context(), x.paths, x.position, x.digest))
			h.requireSame(idx)
			require.Equal(t, dump(t, replayed), dump(t, idx))
			require.NoError(t, idx.Scrub(t.Context(), 0))
			require.NoError(t, idx.Close())
			for _, path := range x.paths {
				require.FileExists(t, path)
			}
			idx = openIndex(t, dir, small(nil))
			require.Equal(t, dump(t, replayed), dump(t, idx))
			later := *h
			entry := later.commit(events.Event{Fact: &events.SettingChanged{Name: "a", Value: "b"}})
			require.NoError(t, idx.Apply([]events.Entry{entry}))
			require.NoError(t, idx.Scrub(t.Context(), 0))
			require.ErrorIs(t, idx.Install(t.Context(), x.paths, x.position, x.digest), ErrOutdated)
		})
	}
}

func TestEqualContentMakesEqualTables(t *testing.T) {
	h, log := grown(t, 120)
	whole, single := openIndex(t, t.TempDir(), small(nil)), openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, whole.Apply(log))
	for i := range log {
		require.NoError(t, single.Apply(log[i:i+1]))
	}
	before := export(t, whole, vfs.Default, t.TempDir())
	require.Equal(t, before.digests, export(t, single, vfs.Default, t.TempDir()).digests)

	require.NoError(t, whole.Apply([]events.Entry{h.commit(h.tell("demo", h.id(), &events.Created{Digest: h.bytes32()}))}))
	after := export(t, whole, vfs.Default, t.TempDir())
	fresh := 0
	for digest := range after.digests {
		if !before.digests[digest] {
			fresh++
		}
	}
	t.Logf("%d of %d tables are new after one key", fresh, len(after.digests))
	require.LessOrEqual(t, fresh, len(after.digests)/2, "the ends of tables are found again")
}

func TestInstallRefuses(t *testing.T) {
	h, log := grown(t, 120)
	source := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, source.Apply(log))
	x := export(t, source, vfs.Default, t.TempDir())
	other := openIndex(t, t.TempDir(), small(nil))
	foreign := newHistory(t, newSeed())
	require.NoError(t, other.Apply([]events.Entry{foreign.open()}))
	y := export(t, other, vfs.Default, t.TempDir())
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()

	flipped := func(path string) string {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		data[len(data)/3] ^= 1
		damaged := filepath.Join(t.TempDir(), "flipped.sst")
		require.NoError(t, os.WriteFile(damaged, data, 0o600))
		return damaged
	}
	wrong := x.digest
	wrong[0] ^= 1
	for name, c := range map[string]struct {
		ctx      context.Context
		tables   []string
		position events.Position
		digest   events.Digest
		want     error
	}{
		"a table less":        {t.Context(), x.paths[1:], x.position, x.digest, ErrTables},
		"a table more":        {t.Context(), slices.Concat(x.paths, y.paths), x.position, x.digest, ErrTables},
		"a damaged table":     {t.Context(), append(slices.Clone(x.paths[1:]), flipped(x.paths[0])), x.position, x.digest, ErrTables},
		"no table":            {t.Context(), []string{filepath.Join(t.TempDir(), "none")}, x.position, x.digest, os.ErrNotExist},
		"another digest":      {t.Context(), x.paths, x.position, wrong, ErrTables},
		"another log's":       {t.Context(), y.paths, y.position, y.digest, events.ErrIncarnation},
		"another incarnation": {t.Context(), x.paths, y.position, x.digest, events.ErrIncarnation},
		"no position":         {t.Context(), x.paths, events.Position{}, x.digest, events.ErrIncarnation},
		"interrupted":         {cancelled, x.paths, x.position, x.digest, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			idx, err := Open(dir, small(nil))
			require.NoError(t, err)
			require.NoError(t, idx.Apply(log[:9]))
			before := dump(t, idx)
			require.ErrorIs(t, idx.Install(c.ctx, c.tables, c.position, c.digest), c.want)
			require.Equal(t, before, dump(t, idx))
			require.NoError(t, idx.Close())
			idx = openIndex(t, dir, small(nil))
			require.Equal(t, before, dump(t, idx))
			require.NoDirExists(t, filepath.Join(dir, buildingDir))
			require.NoError(t, idx.Install(t.Context(), x.paths, x.position, x.digest))
			h.requireSame(idx)
		})
	}
}

func TestCrashInInstallLeavesTheOldOrTheNew(t *testing.T) {
	h, log := grown(t, 50)
	source := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, source.Apply(log))
	crashes, fs := newCrashes(h)
	x := export(t, source, fs, "tables")
	idx := openIndex(t, "idx", small(fs))
	require.NoError(t, idx.Apply(log[:20]))
	older := dump(t, idx)
	require.NoError(t, idx.db.Flush())
	for _, dir := range []string{"/", "tables"} {
		d, err := fs.OpenDir(dir)
		require.NoError(t, err)
		require.NoError(t, d.Sync())
		require.NoError(t, d.Close())
	}
	left := crashes.during(func() { require.NoError(t, idx.Install(t.Context(), x.paths, x.position, x.digest)) })
	stayed := 0
	for i, fs := range left {
		after, err := Open("idx", small(fs))
		require.NoError(t, err)
		if after.Position().Seq < x.position.Seq {
			require.Equal(t, older, dump(t, after))
			require.Less(t, i, len(left)-1, "what is installed stays so")
			stayed++
		} else {
			require.Equal(t, dump(t, source), dump(t, after))
		}
		require.NoError(t, after.Scrub(t.Context(), 0))
		if i%8 == 0 {
			require.NoError(t, after.Apply(behind(log, after.Position())))
			h.requireSame(after)
		}
		require.NoError(t, after.Close())
	}
	t.Logf("%d crashes, %d left the old index", len(left), stayed)
	require.Positive(t, stayed)
	require.Less(t, stayed, len(left)-1)
}

func TestInstallHealsADamagedIndex(t *testing.T) {
	h, log := grown(t, 120)
	idx := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, idx.Apply(log))
	x := export(t, idx, vfs.Default, t.TempDir())
	require.NoError(t, idx.Reset(errDoubt))
	idx.dir.reportCorruption(errDoubt)
	require.NoError(t, idx.Install(t.Context(), x.paths, x.position, x.digest))
	require.NoError(t, idx.dir.found())
	h.requireSame(idx)
}
