package verifier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier"
)

const (
	simHubs  = 2
	simEdges = 3
	simLease = 5 * time.Second
)

// world is two registries and a few verifiers on a log in memory. All are the real ones, on clocks and disks of the test's.
type world struct {
	testing.TB
	random *rand.Rand
	log    *eventlogtest.Memory
	office *office
	hubs   [simHubs]*hub
	edges  [simEdges]*edge
	truth  *truth

	callers sync.WaitGroup
	secrets []secret
	digests map[events.Seq]events.Digest // of indexes

	mu      sync.Mutex
	broken  string
	acked   events.Seq    // newest Seq that a caller was told of
	settled events.Seq    // newest with a final verdict
	sent    []*submission // newest last
	waiting int           // submissions without an answer
	counts  map[string]int
}

// secret is one that was given to somebody.
type secret struct {
	text   string
	digest events.Digest
	key    string // name of the key
}

func newSimWorld(t testing.TB, seed uint64) *world {
	w := &world{
		TB: t, random: rand.New(rand.NewPCG(seed, 1)), log: eventlogtest.NewMemory(), office: &office{},
		truth: newTruth(), digests: map[events.Seq]events.Digest{}, counts: map[string]int{},
	}
	time.Sleep(24 * time.Hour) // the log is old, and the lease was set long ago
	first, err := w.log.Last(w.Context())
	w.must(err)
	at := eventlogtest.Behind(first)
	_, err = w.log.Append(w.Context(), at, eventlogtest.NewCommitOf(t, at, events.Event{
		Fact: &events.SettingChanged{Name: projections.LeaseSetting, Value: simLease.String()}, Admin: events.Admin{Actor: "tester"}.Plain(),
	}))
	w.must(err)
	tmpfs, err := os.MkdirTemp("/dev/shm", "keyfleet-sim-") //nolint:usetesting // only on tmpfs does an instance go on
	w.must(err)
	t.Cleanup(func() { _ = os.RemoveAll(tmpfs) })
	quartz := func() *quartz { return &quartz{rate: 992 + w.random.Int64N(17), started: time.Now()} }
	for i := range w.hubs {
		w.hubs[i] = &hub{w: w, name: fmt.Sprintf("hub-%d", i), clock: quartz(), disk: newDisk(vfs.NewCrashableMem(), w.random), heads: &memo{}}
		w.hubs[i].start()
	}
	for i := range w.edges {
		name := fmt.Sprintf("edge-%d", i)
		w.edges[i] = &edge{w: w, name: name, clock: quartz(), disk: newDisk(vfs.NewCrashableMem(), w.random), run: filepath.Join(tmpfs, name)}
		w.edges[i].start()
	}
	return w
}

func (w *world) must(err error) {
	if err != nil {
		w.breaks("%v", err)
	}
}

// breaks is told of a broken promise. The first is the one that counts.
func (w *world) breaks(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// eachService shows do the registries that can be reached, one after the other, until it has enough. None of them ends meanwhile.
func (w *world) eachService(do func(*registry.Service) (enough bool)) {
	for _, h := range w.hubs {
		svc, done := h.enter()
		if svc == nil {
			continue
		}
		enough := do(svc)
		done()
		if enough {
			return
		}
	}
}

func (w *world) isBroken() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// told is how far callers were told that the log is, and that nobody answers from before.
func (w *world) told() (acked, settled events.Seq) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked, w.settled
}

// look reads what was appended, and holds all that can be seen against it.
func (w *world) look() {
	for {
		e, err := w.log.Read(w.Context(), w.truth.read+1)
		if err != nil {
			break
		}
		if err := w.truth.fold(e); err != nil {
			w.breaks("the log is wrong: %v", err)
			return
		}
	}
	for _, e := range w.edges {
		w.lookAt(e)
	}
}

// lookAt asks one verifier about a few secrets, the newest among them.
func (w *world) lookAt(e *edge) {
	at, digest := e.IndexDigest()
	if before, seen := w.digests[at.Seq]; seen && before != digest {
		w.breaks("the index of %s at Seq %d is not that of another at the same Seq", e.name, at.Seq)
	}
	w.digests[at.Seq] = digest
	for i := range min(6, len(w.secrets)) {
		s := w.secrets[len(w.secrets)-1-i]
		for tries := 4; i > 0 && tries > 0 && w.truth.secrets[s.digest].IsZero(); tries-- { // rather one that somebody has
			s = w.secrets[max(0, len(w.secrets)-1-w.random.IntN(20))]
		}
		w.lookFor(e, s, at.Seq)
	}
}

func (w *world) lookFor(e *edge, s secret, at events.Seq) {
	ask := verifier.Request{Project: "demo", Deployment: fmt.Sprintf("model-%d", w.random.IntN(3)), Key: []byte(s.text)}
	acked, settled := w.told()
	if w.random.IntN(4) == 0 && acked > 0 {
		ask.MinSeq = acked - events.Seq(w.random.IntN(3))
	}
	over, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits
	a := e.Check(over, ask)
	w.count("answer " + a.Reason.String())
	if a.Reason == projections.NotFresh || a.Reason == projections.BehindMinSeq {
		return
	}
	switch {
	case a.Seq != at:
		w.breaks("%s answers from Seq %d, its index is at %d", e.name, a.Seq, at)
	case a.Seq < settled:
		w.breaks("%s answers from Seq %d, and Seq %d is confirmed or fenced", e.name, a.Seq, settled)
	case a.Seq < ask.MinSeq:
		w.breaks("%s answers from Seq %d who asks for %d", e.name, a.Seq, ask.MinSeq)
	}
	wall := events.InstantOf(e.clock.Now())
	earliest := max(wall, e.told.least())
	latest := max(wall, soonOf(time.Now().Add(simLease)))
	if want := w.truth.decideWithin(s.digest, ask.Deployment, at, earliest, latest); !slices.Contains(want, a.Reason) {
		w.breaks("%s says %s of %s at Seq %d for %s; the log says %v", e.name, a.Reason, s.key, at, ask.Deployment, want)
	}
}

func (w *world) stop() {
	for _, e := range w.edges {
		e.stop()
	}
	for _, h := range w.hubs {
		h.stop()
	}
}

// newSecret makes one for the key.
func (w *world) newSecret(key string) secret {
	made := apikey.Generate()
	s := secret{text: made.Reveal(), digest: made.Digest(), key: key}
	w.secrets = append(w.secrets, s)
	return s
}

// runEpoch is one world from its beginning to its end.
func runEpoch(t *testing.T, seed uint64, steps int, counts *tallies) {
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, seed)
		defer func() { counts.add(w.counts) }()
		var last []string
		for i := 0; i < steps && w.isBroken() == ""; i++ {
			what := w.step()
			synctest.Wait()
			w.count(what)
			last = append(last[max(0, len(last)-30):], what)
			w.look()
		}
		if w.isBroken() == "" {
			w.settle()
		}
		w.callers.Wait()
		w.stop()
		require.Empty(t, w.isBroken(), "seed %d; the last steps were %q", seed, last)
	})
}
