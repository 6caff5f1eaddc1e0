package main

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// damages are what a disk, or somebody with a shell, does to a file of a process that is not running.
var damages = []struct {
	name string
	do   func(r *rand.Rand, content []byte) []byte // nil: it is gone
}{
	{"a bit flipped", func(r *rand.Rand, content []byte) []byte {
		content[r.IntN(len(content))] ^= 1 << r.IntN(8)
		return content
	}},
	{"cut short", func(r *rand.Rand, content []byte) []byte { return content[:r.IntN(len(content))] }},
	{"zeroes at its end", func(r *rand.Rand, content []byte) []byte {
		clear(content[r.IntN(len(content)):])
		return content
	}},
	{"gone", func(*rand.Rand, []byte) []byte { return nil }},
}

var everyDamage = flag.Bool("every-damage", false, "damage every file in every way, instead of a few")

const usualDamages = 4

// TestDamagedFiles: whatever is done to one file of dev's, the next start goes on, rebuilds what it can, or refuses in a
// sentence. A key that was deleted is not let in, and nothing panics. -every-damage leaves none out.
func TestDamagedFiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	w := newUsedDev(t)
	type damage struct{ file, how int }
	var all []damage
	for file := range w.files {
		for how := range damages {
			all = append(all, damage{file, how})
		}
	}
	if !*everyDamage {
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:usualDamages]
	}
	for _, d := range all {
		file, how := w.files[d.file], damages[d.how]
		outcome := w.startWith(t, func(data string) {
			path := filepath.Join(data, file)
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.Remove(path))
			if left := how.do(random, content); left != nil {
				require.NoError(t, os.WriteFile(path, left, 0o600))
			}
		})
		t.Logf("%s, %s: %s", kindOf(file), how.name, outcome)
	}
}

// TestLostAndOldDirectories: as above, with whole directories gone, or back from an old backup.
func TestLostAndOldDirectories(t *testing.T) {
	w := newUsedDev(t)
	parts := []string{"nats", "nats/jetstream/$G/streams/KEYFLEET_LOG", "nats/jetstream/$G/streams/KV_KEYFLEET_ELECTION", "catalog", "verifier", "keyindex", "signed-head", "noted-head"}
	for _, part := range parts {
		t.Run(filepath.Base(part), func(t *testing.T) {
			t.Parallel() // a log that lost its end is looked at again for a while
			lost := w.startWith(t, func(data string) { require.NoError(t, os.RemoveAll(filepath.Join(data, part))) })
			t.Logf("%s, gone: %s", part, lost)
			restored := w.startWith(t, func(data string) {
				require.NoError(t, os.RemoveAll(filepath.Join(data, part)))
				if old := filepath.Join(w.old, part); isThere(old) {
					copyTree(t, old, filepath.Join(data, part))
				}
			})
			t.Logf("%s, back from a backup: %s", part, restored)
			for _, outcome := range []string{lost, restored} {
				switch part {
				case "nats", "nats/jetstream/$G/streams/KEYFLEET_LOG":
					require.NotEqual(t, "goes on", outcome, "a log that lost its end is no log to go on with")
				default:
					require.Equal(t, "goes on", outcome, part)
				}
			}
		})
	}
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// kindOf is the same for files that differ only in their numbers.
func kindOf(file string) string { return digits.ReplaceAllString(file, "N") }

// usedDev is a directory that a dev has worked in and was killed over, and what it was at a backup before.
type usedDev struct {
	now, old    string
	files       []string // with something in them
	alive, dead string   // keys
	last        uint64   // Seq, when it was killed
}

func newUsedDev(t *testing.T) *usedDev {
	data := filepath.Join(t.TempDir(), "data")
	w := &usedDev{now: filepath.Join(t.TempDir(), "now"), old: filepath.Join(t.TempDir(), "old")}
	first := startDev(t, data)
	w.alive = first.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"alive-key","deployments":["echo-model"]}`).Secret
	w.dead = first.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"dead-key","deployments":["echo-model"]}`).Secret
	require.Equal(t, statusDone, first.stop())
	copyTree(t, data, w.old) // the key is not dead yet

	second := startDev(t, data)
	gone := second.request(t, "keyfleet.cmd.demo.dev.key.delete", `{"key":"dead-key","wait":"confirmed"}`)
	require.Equal(t, "confirmed", gone.Confirmation.State)
	w.last = uint64(gone.Seq)
	require.Equal(t, statusDone, second.stop()) // there are tables now, and what the server notes at its stop
	third := startDev(t, data)
	for i := range 30 {
		w.last = uint64(third.request(t, "keyfleet.cmd.demo.dev.key.create", fmt.Sprintf(`{"name":"key-%d"}`, i)).Seq)
	}
	third.kill()
	copyTree(t, data, w.now)
	require.NoError(t, filepath.WalkDir(w.now, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if file, _ := filepath.Rel(w.now, path); err == nil && info.Size() > 0 {
			w.files = append(w.files, file)
		}
		return err
	}))
	slices.Sort(w.files)
	return w
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	require.NoError(t, err)
	if info.IsDir() {
		require.NoError(t, os.CopyFS(to, os.DirFS(from)))
		return
	}
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o600))
}

// readyPatience is how long a dev that is damaged may take to say that it is ready, or why it never will be.
const readyPatience = 20 * time.Second

// startWith starts a dev on a copy of the directory that was changed, and says what became of it. It does not let it do wrong.
func (w *usedDev) startWith(t *testing.T, change func(data string)) (outcome string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	copyTree(t, w.now, data)
	require.NoError(t, os.Chmod(data, 0o700))
	change(data)
	checks := freeAddress(t)
	d, ready, err := spawnDev(data, "--check", checks)
	require.NoError(t, err)
	defer d.kill()
	isReady := false
	select {
	case isReady = <-ready:
	case <-time.After(readyPatience):
		outcome = "serves nothing"
	}
	dead, alive := statusAt(checks, w.dead), statusAt(checks, w.alive)
	said := d.stderr.String()
	require.NotEqual(t, http.StatusOK, dead, "a deleted key is let in:\n%s", said)
	require.NotRegexp(t, `(?m)^(panic:|fatal error:|goroutine \d)`, said)
	switch {
	case outcome != "":
	case isReady && alive == http.StatusOK && statusAt(checks, w.alive, "Keyfleet-Min-Seq", strconv.FormatUint(w.last, 10)) == http.StatusOK:
		outcome = "goes on"
	case isReady && alive == http.StatusOK:
		outcome = "goes on without the log's end"
	case isReady:
		outcome = fmt.Sprintf("is ready, and says %d of a living key", alive)
	default:
		<-d.ended
		outcome = "refuses"
		t.Log(lastLine(said))
		require.Contains(t, said, "keyfleet", "it says why")
	}
	return outcome
}

// loopbacks are those of the machine's own addresses that were given out.
var loopbacks atomic.Uint32

// freeAddress is one that nobody else is given: 127.0.0.1 is for those who take any port.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := loopbacks.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.1.%d.%d:0", n/200%200, 1+n%200))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// statusAt is 0 where nobody answers.
func statusAt(checks, key string, header ...string) int {
	r, err := http.NewRequest(http.MethodGet, "http://"+checks+"/v1/check/demo/echo-model", strings.NewReader(""))
	if err != nil {
		return 0
	}
	r.Header.Set("X-Api-Key", key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
