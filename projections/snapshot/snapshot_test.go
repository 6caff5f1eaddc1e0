package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

func requireSame(t testing.TB, want, got *keyindex.Index) {
	t.Helper()
	position, digest := want.Digest()
	foundPosition, foundDigest := got.Digest()
	require.Equal(t, position, foundPosition)
	require.Equal(t, digest, foundDigest)
	require.Equal(t, want.Charter(), got.Charter())
	require.NoError(t, got.Scrub(t.Context(), 0))
}

func TestInstalledIsReplayed(t *testing.T) {
	j, idx, objects, built := shelved(t)
	o := options(t)
	var done, total int64
	o.Progress = func(d, all int64) {
		require.Greater(t, d, done)
		done, total = d, all
	}
	fresh := openIndex(t, t.TempDir())
	m, err := Install(t.Context(), fresh, objects, o)
	require.NoError(t, err)
	require.Equal(t, built, m)
	require.Equal(t, m.Size(), total)
	require.Equal(t, total, done)
	require.NoDirExists(t, o.Staging)
	requireSame(t, idx, fresh)

	entry := j.keys(3)
	require.NoError(t, idx.Apply([]events.Entry{entry}))
	require.NoError(t, fresh.Apply([]events.Entry{entry}))
	requireSame(t, idx, fresh)
	_, err = Install(t.Context(), fresh, objects, o)
	require.ErrorIs(t, err, ErrNone)
	require.ErrorIs(t, err, keyindex.ErrOutdated)
}

func TestUnchangedTablesArePutOnce(t *testing.T) {
	j, idx, objects, before := shelved(t)
	require.NoError(t, idx.Apply([]events.Entry{j.keys(1)}))
	objects.cutAfter(0)
	after, err := build(t.Context(), idx, objects, signer, smallTables)
	require.NoError(t, err)
	require.NotEqual(t, before.Digest, after.Digest)
	require.Less(t, objects.calls, 2+len(after.Tables)/2)
}

// Cut off at any call, an Install is done by the next, and what came whole is not fetched again.
func TestInstallIsResumed(t *testing.T) {
	_, idx, objects, m := shelved(t)
	for cut := 1; cut < 2+len(m.Tables); cut++ {
		o := options(t)
		fresh := openIndex(t, t.TempDir())
		objects.cutAfter(cut)
		_, err := Install(t.Context(), fresh, objects, o)
		require.ErrorIs(t, err, errCut)
		require.Zero(t, fresh.Position())
		held := 0
		for _, path := range files(t, o.Staging) {
			if strings.HasSuffix(path, partSuffix) {
				continue
			}
			if held++; held == 3 { // the power went before it was written out
				require.NoError(t, os.Truncate(path, 100))
				held--
			}
		}
		objects.cutAfter(0)
		_, err = Install(t.Context(), fresh, objects, o)
		require.NoError(t, err)
		require.Len(t, objects.got, 1+len(m.Tables)-held)
		requireSame(t, idx, fresh)
	}
}

func files(t testing.TB, dir string) (paths []string) {
	found, err := os.ReadDir(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, file := range found {
		paths = append(paths, filepath.Join(dir, file.Name()))
	}
	return paths
}

func TestWhatNoManifestNamesLeavesTheStaging(t *testing.T) {
	_, _, objects, _ := shelved(t)
	o := options(t)
	require.NoError(t, os.MkdirAll(o.Staging, 0o700))
	old := filepath.Join(o.Staging, (&Table{Digest: events.Digest{1}}).name())
	require.NoError(t, os.WriteFile(old, []byte("of an older snapshot"), 0o600))
	objects.cutAfter(3)
	_, err := Install(t.Context(), openIndex(t, t.TempDir()), objects, o)
	require.ErrorIs(t, err, errCut)
	require.NoFileExists(t, old)
}

// Whatever happens to any object, the index stays as it is.
func TestDamagedObjectsAreRefused(t *testing.T) {
	j, opened := newJournal(t, 1)
	whole := openIndex(t, t.TempDir(), opened, j.keys(300))
	objects := newShelf()
	_, err := build(t.Context(), whole, objects, signer, smallTables)
	require.NoError(t, err)
	fresh := openIndex(t, t.TempDir(), opened)
	position, digest := fresh.Digest()
	names := slices.Sorted(maps.Keys(objects.objects))
	for i, name := range names {
		content := objects.objects[name]
		damaged := map[string][]byte{
			"truncated": content[:len(content)-1], "empty": {}, "longer": append(bytes.Clone(content), 0),
			"another": objects.objects[names[(i+1)%len(names)]],
		}
		for _, at := range []int{0, len(tag) + 3, len(content) / 2, len(content) - 1} {
			flipped := bytes.Clone(content)
			flipped[at] ^= 1
			damaged["flipped at "+string(rune('a'+at%26))] = flipped
		}
		for how, wrong := range damaged {
			objects.objects[name] = wrong
			_, err := Install(t.Context(), fresh, objects, options(t))
			require.Truef(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNone), "%s %s: %v", name, how, err)
			foundPosition, foundDigest := fresh.Digest()
			require.Equal(t, position, foundPosition)
			require.Equal(t, digest, foundDigest)
		}
		delete(objects.objects, name)
		_, err := Install(t.Context(), fresh, objects, options(t))
		require.Error(t, err)
		objects.objects[name] = content
	}
	_, err = Install(t.Context(), fresh, objects, options(t))
	require.NoError(t, err)
	requireSame(t, whole, fresh)
}

// A registry that signs something wrong is found out by counting; one that is not pinned is not even read.
func TestWrongManifestsAreRefused(t *testing.T) {
	_, idx, objects, m := shelved(t)
	j, opened := newJournal(t, 2)
	other := openIndex(t, t.TempDir(), opened, j.keys(20))
	stranger, _ := key(2)
	for name, c := range map[string]struct {
		change func(m *Manifest)
		signer ed25519.PrivateKey
		into   *keyindex.Index
		want   error
	}{
		"a stranger's":     {func(*Manifest) {}, stranger, nil, ErrNotSigned},
		"digest":           {func(m *Manifest) { m.Digest[0] ^= 1 }, signer, nil, keyindex.ErrTables},
		"incarnation":      {func(m *Manifest) { m.Position.Incarnation[0] ^= 1 }, signer, nil, keyindex.ErrTables},
		"a table less":     {func(m *Manifest) { m.Tables = m.Tables[1:] }, signer, nil, keyindex.ErrTables},
		"a table's digest": {func(m *Manifest) { m.Tables[1].Digest = m.Tables[0].Digest }, signer, nil, ErrCorrupt},
		"a table's size":   {func(m *Manifest) { m.Tables[1].Size++ }, signer, nil, ErrCorrupt},
		"newer digest":     {func(m *Manifest) { m.DigestVersion++ }, signer, nil, ErrNone},
		"another log's":    {func(*Manifest) {}, signer, other, events.ErrIncarnation},
		"outdated":         {func(*Manifest) {}, signer, idx, keyindex.ErrOutdated},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := m
			wrong.Tables = slices.Clone(m.Tables)
			c.change(&wrong)
			signed, err := wrong.sign(c.signer)
			require.NoError(t, err)
			only := newShelf()
			maps.Copy(only.objects, objects.objects)
			only.objects[m.name()] = signed
			into := c.into
			if into == nil {
				into = openIndex(t, t.TempDir())
			}
			before := into.Position()
			_, err = Install(t.Context(), into, only, options(t))
			require.ErrorIs(t, err, c.want)
			require.Equal(t, before, into.Position())
		})
	}
}

func TestOlderSnapshotStandsInForAForgedOne(t *testing.T) {
	j, idx, objects, m := shelved(t)
	require.NoError(t, idx.Apply([]events.Entry{j.keys(5)}))
	newer, err := build(t.Context(), idx, objects, signer, smallTables)
	require.NoError(t, err)
	objects.objects[newer.name()][len(tag)] ^= 1
	fresh := openIndex(t, t.TempDir())
	installed, err := Install(t.Context(), fresh, objects, options(t))
	require.NoError(t, err)
	require.Equal(t, m, installed)
	// An old manifest under a new name is no newer snapshot.
	signed, err := m.sign(signer)
	require.NoError(t, err)
	objects.objects = map[string][]byte{newer.name(): signed}
	_, err = Install(t.Context(), openIndex(t, t.TempDir()), objects, options(t))
	require.ErrorIs(t, err, ErrNone)
}

// Stopped at any call, Build and Prune leave a snapshot that installs.
func TestBuildAndPruneMayStopAnywhere(t *testing.T) {
	for cut, stopped := 1, true; stopped; cut++ {
		j, idx, objects, _ := shelved(t)
		require.NoError(t, idx.Apply([]events.Entry{j.keys(20)}))
		objects.cutAfter(cut)
		_, err := build(t.Context(), idx, objects, signer, smallTables)
		if err == nil {
			err = Prune(t.Context(), objects, 1, public)
		}
		if stopped = err != nil; stopped {
			require.ErrorIs(t, err, errCut)
		}
		objects.cutAfter(0)
		requireWhole(t, objects)
		fresh := openIndex(t, t.TempDir())
		m, err := Install(t.Context(), fresh, objects, options(t))
		require.NoError(t, err)
		if !stopped {
			requireSame(t, idx, fresh)
			require.Len(t, objects.objects, 1+len(m.Tables), "nothing is left of the snapshot before")
		}
	}
}

// requireWhole wants every table that a manifest names, and gives their names.
func requireWhole(t testing.TB, objects *shelf) []string {
	named := map[string]bool{}
	for _, name := range manifestNames(slices.Collect(maps.Keys(objects.objects))) {
		m, err := readManifest(t.Context(), objects, name, []events.PublicKey{public})
		require.NoError(t, err)
		for i := range m.Tables {
			require.Contains(t, objects.objects, m.Tables[i].name())
			named[m.Tables[i].name()] = true
		}
	}
	return slices.Collect(maps.Keys(named))
}

func TestPruneKeepsTheNewest(t *testing.T) {
	j, idx, objects, _ := shelved(t)
	for range 3 {
		require.NoError(t, idx.Apply([]events.Entry{j.keys(1)}))
		_, err := build(t.Context(), idx, objects, signer, smallTables)
		require.NoError(t, err)
	}
	objects.objects[manifestPrefix+"9999"] = []byte("forged, and newest by its name")
	objects.objects["readme"] = []byte("somebody else's")
	require.NoError(t, Prune(t.Context(), objects, 2, public))
	left := slices.Collect(maps.Keys(objects.objects))
	require.Len(t, manifestNames(left), 2)
	require.Contains(t, left, "readme")
	require.ElementsMatch(t, requireWhole(t, objects), tableNames(left))

	before := len(objects.objects)
	_, stranger := key(2)
	require.Error(t, Prune(t.Context(), objects, 2, stranger), "nothing would be left")
	require.Error(t, Prune(t.Context(), objects, 0, public))
	objects.cutAfter(2)
	require.ErrorIs(t, Prune(t.Context(), objects, 2, public), errCut)
	require.Len(t, objects.objects, before)
}

func TestAnEmptyIndexMakesNoSnapshot(t *testing.T) {
	objects := newShelf()
	_, err := Build(t.Context(), openIndex(t, t.TempDir()), objects, signer)
	require.ErrorIs(t, err, events.ErrMalformed)
	require.Empty(t, objects.objects)
}
