package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

// drawer keeps objects in a directory, as a store on the same machine would.
type drawer string

func (d drawer) List(context.Context) (names []string, err error) {
	files, err := os.ReadDir(string(d))
	for _, file := range files {
		names = append(names, file.Name())
	}
	return names, err
}

func (d drawer) Get(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), name))
}

func (d drawer) Put(_ context.Context, name string, content io.Reader) error {
	all, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(string(d), name), all, 0o600)
}

func (d drawer) Delete(_ context.Context, name string) error {
	return os.Remove(filepath.Join(string(d), name))
}

// BenchmarkColdStart sets a snapshot's way beside the log's: run it with -benchtime=1x. KEYFLEET_BENCH_10M adds
// 10 million keys, and takes some minutes.
func BenchmarkColdStart(b *testing.B) {
	sizes := []int{1_000_000}
	if os.Getenv("KEYFLEET_BENCH_10M") != "" {
		sizes = append(sizes, 10_000_000)
	}
	for _, size := range sizes {
		b.Run(fmt.Sprintf("keys=%d", size), func(b *testing.B) {
			dir := b.TempDir()
			objects := drawer(b.TempDir())
			b.Run("replay", func(b *testing.B) {
				for b.Loop() {
					require.NoError(b, os.RemoveAll(dir))
					replay(b, dir, size)
				}
			})
			idx := openIndex(b, dir)
			b.Run("scrub", func(b *testing.B) {
				for b.Loop() {
					require.NoError(b, idx.Scrub(b.Context(), 0))
				}
			})
			b.Run("build", func(b *testing.B) {
				for b.Loop() {
					m, err := Build(b.Context(), idx, objects, signer)
					require.NoError(b, err)
					b.ReportMetric(float64(m.Size())/(1<<20), "MiB")
					b.ReportMetric(float64(len(m.Tables)), "tables")
				}
			})
			b.Run("install", func(b *testing.B) {
				for b.Loop() {
					install(b, objects)
				}
			})
		})
	}
}

// replay folds a log of so many keys into a new index. The log is written meanwhile, on the clock of nobody.
func replay(b *testing.B, dir string, size int) {
	const batch = 1000
	j, opened := newJournal(b, 1)
	idx, err := keyindex.Open(dir, keyindex.Options{})
	require.NoError(b, err)
	require.NoError(b, idx.Apply([]events.Entry{opened}))
	for made := 0; made < size; made += batch {
		b.StopTimer()
		entry := j.keys(batch)
		b.StartTimer()
		require.NoError(b, idx.Apply([]events.Entry{entry}))
	}
	require.NoError(b, idx.Close())
}

func install(b *testing.B, objects Objects) {
	b.StopTimer()
	dir := b.TempDir()
	fresh, err := keyindex.Open(dir, keyindex.Options{})
	require.NoError(b, err)
	b.StartTimer()
	_, err = Install(b.Context(), fresh, objects, options(b))
	require.NoError(b, err)
	b.StopTimer()
	require.NoError(b, fresh.Close())
	require.NoError(b, os.RemoveAll(dir))
	b.StartTimer()
}
