package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The servers of a stand that are no part of Keyfleet run from this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every scenario is carried out with little of everything: figures mean nothing here, but nothing may fail.
func TestScenarios(t *testing.T) {
	keyfleet := filepath.Join(t.TempDir(), "keyfleet")
	said, err := exec.CommandContext(t.Context(), "go", "build", "-o", keyfleet, "../cmd/keyfleet").CombinedOutput()
	require.NoError(t, err, string(said))
	o := options{
		keyfleet: keyfleet, keys: 2000, zipf: 1.1, rate: 200, length: time.Second / 5, workers: 4, verifiers: 3,
		million: 20_000, soak: 2 * time.Second,
	}
	if _, err := exec.LookPath(redisProgram); err != nil && os.Getenv("CI") != "true" {
		t.Skipf("%s is not here: .ci/needs installs it", redisProgram)
	}
	r, err := measure(t.Context(), o, scenarios(), io.Discard)
	require.NoError(t, err)
	for _, s := range r.Scenarios {
		require.NotEmpty(t, s.Figures, s.Name)
		for _, series := range s.Series {
			require.NotZero(t, series.Done, "%s, %s", s.Name, series.Name)
			require.Zero(t, series.Failed, "%s, %s: %v", s.Name, series.Name, series.Failures)
		}
	}
	out := t.TempDir()
	require.NoError(t, writeResults(out, r))
	read, err := readRun(filepath.Join(out, "run.json"))
	require.NoError(t, err)
	require.Equal(t, r, read)

	var page bytes.Buffer
	compare := newCommand(io.Discard)
	compare.SetOut(&page)
	compare.SetArgs([]string{"page", filepath.Join(out, "run.json"), filepath.Join(out, "run.json")})
	require.NoError(t, compare.ExecuteContext(t.Context()))
	require.Contains(t, page.String(), "confirmed, before")
	compare.SetArgs([]string{"page", filepath.Join(out, "index.html")})
	require.ErrorContains(t, compare.ExecuteContext(t.Context()), "index.html is not what loadtest run writes")
}

func TestOptionsAreBounded(t *testing.T) {
	fit := options{keys: 1, rate: 1, length: time.Second, workers: 1, verifiers: 1, million: 1, soak: time.Second}
	require.NoError(t, fit.check())
	for name, spoil := range map[string]func(*options){
		"no keys": func(o *options) { o.keys = 0 }, "no rate": func(o *options) { o.rate = 0 }, "a flood": func(o *options) { o.rate = 1e9 },
		"for ever": func(o *options) { o.length = 1000 * time.Hour }, "a crowd": func(o *options) { o.verifiers = 1e6 },
		"callers without end": func(o *options) { o.workers = 1e6 }, "no such distribution": func(o *options) { o.zipf = 0.5 },
	} {
		o := fit
		spoil(&o)
		require.Error(t, o.check(), name)
	}
	_, err := choose([]string{"checks", "nonsense"})
	require.ErrorContains(t, err, "nonsense")
}

func TestPopularKeysAreShownMore(t *testing.T) {
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	shown := func(zipf float64) map[string]int {
		next, counts := (&bench{options: options{zipf: zipf}}).picker(keys, 0), map[string]int{}
		for range 10_000 {
			counts[next()]++
		}
		return counts
	}
	require.Greater(t, shown(1.5)["a"], 10*shown(1.5)["j"])
	require.InDelta(t, 1000, shown(0)["a"], 200)
	require.InDelta(t, 1000, shown(0)["j"], 200)
}
