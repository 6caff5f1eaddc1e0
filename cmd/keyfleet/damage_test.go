package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// witness is a directory of a dev that has ended, and what its keys have to be answered.
type witness struct {
	data string
	keys map[string]witnessed
}

type witnessed struct {
	secret string
	status int // where the answer is not 503, or none
}

// newWitness has a key of every fate. before sees the directory, its dev stopped, as it was when the last key still lived.
func newWitness(t *testing.T, before func(data string)) *witness {
	w := &witness{data: filepath.Join(t.TempDir(), "data"), keys: map[string]witnessed{}}
	dev := startDev(t, w.data)
	do := func(d *devProcess, args ...string) string {
		out, status := d.keyfleet(t, "", args...)
		require.Equal(t, statusDone, status, args)
		return strings.TrimSpace(out)
	}
	create := func(name string, status int) {
		secret := do(dev, "keys", "create", name, "--deployment", "echo-model")
		w.keys[name] = witnessed{secret, status}
	}
	create("living", http.StatusOK)
	create("expired", http.StatusUnauthorized)
	create("detached", http.StatusForbidden)
	create("disabled", http.StatusUnauthorized)
	create("deleted", http.StatusUnauthorized)
	do(dev, "keys", "expire", "expired", "2020-01-01")
	do(dev, "keys", "detach", "detached", "echo-model")
	do(dev, "keys", "disable", "disabled")
	require.Equal(t, 0, dev.stop())
	before(w.data)
	dev = startDev(t, w.data)
	do(dev, "keys", "delete", "deleted", "--wait", "confirmed")
	dev.kill()
	return w
}

// hold starts a dev on the directory, and requires that whoever is answered is answered rightly. It reports whether
// anybody is.
func (w *witness) hold(t *testing.T, data string) (answered bool) {
	dev, ready, err := spawnDev(data)
	require.NoError(t, err)
	defer dev.kill()
	defer func() {
		for _, word := range []string{"panic:", "DATA RACE", "unexpected fault"} {
			require.NotContains(t, dev.stderr.String(), word)
		}
	}()
	select {
	case up := <-ready:
		if !up {
			<-dev.ended
			require.Contains(t, dev.stderr.String(), "keyfleet: ", "it says why, and what to do")
			return false
		}
	case <-time.After(20 * time.Second):
		return false // nobody answers
	}
	require.NoError(t, dev.readAddresses())
	for name, key := range w.keys {
		status, _ := get(t, http.MethodGet, dev.Check+"/v1/check/demo/echo-model", key.secret, "")
		require.Contains(t, []int{key.status, http.StatusServiceUnavailable}, status, "%s\n%s", name, withoutPebble(dev.stderr.String()))
		answered = answered || status == key.status
	}
	return answered
}

// TestDamagedFiles changes one file of a dev that has ended, in every way that disks and people know. What then starts answers
// rightly or not at all. DAMAGE_TRIALS says how many times it is tried, DAMAGE_SEED where to begin.
func TestDamagedFiles(t *testing.T) {
	trials, seed := setting(t, "DAMAGE_TRIALS", 12), setting(t, "DAMAGE_SEED", time.Now().UnixNano())
	w := newWitness(t, func(string) {})
	files := filesIn(t, w.data)
	answered := 0
	for i := range trials {
		dice := rand.New(rand.NewPCG(uint64(seed+i), 0))
		file := files[dice.IntN(len(files))]
		kind := damages[dice.IntN(len(damages))]
		name := fmt.Sprintf("seed=%d/%s/%s", seed+i, kind.name, file)
		t.Run(strings.ReplaceAll(name, "$", ""), func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.CopyFS(data, os.DirFS(w.data)))
			restrict(t, data)
			kind.do(t, dice, filepath.Join(data, file))
			if w.hold(t, data) {
				answered++
			}
		})
	}
	t.Logf("%d of %d answered", answered, trials)
}

// TestOldBackups puts one part of a dev back to what it was before a key was deleted.
func TestOldBackups(t *testing.T) {
	backup := filepath.Join(t.TempDir(), "backup")
	w := newWitness(t, func(data string) { require.NoError(t, os.CopyFS(backup, os.DirFS(data))) })
	for _, part := range []string{"nats", "catalog", "keyindex", "verifier", "signed-head"} {
		t.Run(part, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.CopyFS(data, os.DirFS(w.data)))
			require.NoError(t, os.RemoveAll(filepath.Join(data, part)))
			if info, err := os.Stat(filepath.Join(backup, part)); err == nil && info.IsDir() {
				require.NoError(t, os.CopyFS(filepath.Join(data, part), os.DirFS(filepath.Join(backup, part))))
			} else {
				kept, err := os.ReadFile(filepath.Join(backup, part))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(data, part), kept, 0o600))
			}
			restrict(t, data)
			answers := w.hold(t, data)
			require.Equal(t, part != "nats", answers, "a log that has lost its end is found out; the rest catches up with it")
		})
	}
}

func setting(t *testing.T, variable string, otherwise int64) int64 {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err, variable)
	return n
}

// restrict makes a copy of a directory as private as the original.
func restrict(t *testing.T, dir string) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.Chmod(path, 0o700)
		default:
			return os.Chmod(path, 0o600)
		}
	}))
}

func filesIn(t *testing.T, dir string) (files []string) {
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	slices.Sort(files)
	return files
}

// damages are what may become of a file.
var damages = []struct {
	name string
	do   func(t *testing.T, dice *rand.Rand, file string)
}{
	{"bit flipped", changing(func(dice *rand.Rand, b []byte) []byte {
		if len(b) > 0 {
			b[dice.IntN(len(b))] ^= 1 << dice.IntN(8)
		}
		return b
	})},
	{"cut short", changing(func(dice *rand.Rand, b []byte) []byte { return b[:dice.IntN(len(b)+1)] })},
	{"block of zeroes", changing(func(dice *rand.Rand, b []byte) []byte {
		if len(b) > 0 {
			from := dice.IntN(len(b))
			clear(b[from:min(len(b), from+4096)])
		}
		return b
	})},
	{"garbage behind it", changing(func(dice *rand.Rand, b []byte) []byte {
		return append(b, bytes.Repeat([]byte{byte(dice.Uint32())}, 1+dice.IntN(500))...)
	})},
	{"gone", func(t *testing.T, _ *rand.Rand, file string) { require.NoError(t, os.Remove(file)) }},
}

func changing(change func(*rand.Rand, []byte) []byte) func(*testing.T, *rand.Rand, string) {
	return func(t *testing.T, dice *rand.Rand, file string) {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, change(dice, b), 0o600))
	}
}
