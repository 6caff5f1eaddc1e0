package verifier

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/events/slot"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier/verifiertest"
)

var noon = time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)

// world is a log, a verifier that follows it, and a clock that stands still.
type world struct {
	testing.TB
	log    *eventlogtest.Memory
	last   events.Position
	revs   map[[16]byte]uint64
	clock  *clock.Manual
	hub    *verifiertest.Registry
	down   atomic.Bool // the uplink is
	happen chan Event
	dir    string
	opts   Options
	v      *Verifier
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	w := &world{
		TB: t, log: eventlogtest.NewMemory(), revs: map[[16]byte]uint64{},
		clock: clock.NewManual(noon), happen: make(chan Event, 10_000), dir: t.TempDir(),
	}
	first, err := w.log.Last(t.Context())
	require.NoError(t, err)
	w.last = eventlogtest.Behind(first)
	w.hub = verifiertest.New(w.log)
	w.opts = Options{
		Source: w.log, Uplink: uplink{w}, LogKeys: w.hub.Keys(), Name: "edge", Clock: w.clock, RenewEvery: 2 * time.Millisecond, CacheBytes: 1 << 20,
		Listen: func(e Event) { w.happen <- e },
	}
	for _, c := range change {
		c(&w.opts)
	}
	return w
}

// uplink is the hub's, unless it is down.
type uplink struct{ *world }

func (u uplink) Renew(ctx context.Context, r head.Renewal) ([]byte, error) {
	if u.down.Load() {
		return nil, errors.New("the uplink is down")
	}
	return u.hub.Renew(ctx, r)
}

func (u uplink) Acknowledge(a head.Ack) { u.hub.Acknowledge(a) }

func (u uplink) Goodbye(ctx context.Context, g head.Goodbye) error {
	if u.down.Load() {
		return ErrUnsent
	}
	return u.hub.Goodbye(ctx, g)
}

func (w *world) open() *world {
	w.Helper()
	var err error
	w.v, err = Open(w.dir, w.opts)
	require.NoError(w, err)
	w.Cleanup(func() { require.NoError(w, w.v.Close()) })
	return w
}

// run opens the verifier and runs it until the test ends.
func (w *world) run() *world {
	w.Helper()
	w.open()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.v.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		require.NoError(w, <-ended)
	})
	return w
}

// until waits for an event of the type.
func until[E Event](w *world) E {
	w.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e := <-w.happen:
			if e, ok := e.(E); ok {
				return e
			}
		case <-deadline:
			w.Fatalf("no %T came", *new(E))
		}
	}
}

// caughtUp waits until checks are answered, from all that the log has.
func (w *world) caughtUp() {
	w.Helper()
	until[CaughtUp](w)
	require.Eventually(w, func() bool { return w.v.gate.Load().applied == w.last.Seq }, 20*time.Second, time.Millisecond)
}

// tell puts one commit of the facts at the log's end, and returns its Seq.
func (w *world) tell(subject [16]byte, facts ...events.Fact) events.Seq {
	w.Helper()
	var es []events.Event
	for _, f := range facts {
		w.revs[subject]++
		es = append(es, events.Event{Project: "demo", Subject: subject, Rev: w.revs[subject], Fact: f})
	}
	return w.commit(es...)
}

func (w *world) commit(es ...events.Event) events.Seq {
	w.Helper()
	entry, err := w.log.Append(context.Background(), w.last, eventlogtest.NewCommitOf(w, w.last, es...))
	require.NoError(w, err)
	w.last = eventlogtest.Behind(entry)
	return w.last.Seq
}

func (w *world) deployment(name string) events.DeploymentID {
	id := events.DeploymentID(newID())
	w.tell(id, &events.DeploymentRegistered{Name: name, Upstream: "http://up", Host: name + ".test"})
	return id
}

func newID() [16]byte { d := apikey.Generate().Digest(); return [16]byte(d[:16]) }

// key is a key in the log, with its secret.
type key struct {
	id     events.KeyID
	secret []byte
	digest events.Digest
}

func newKey() key {
	s := apikey.Generate()
	return key{id: newID(), secret: []byte(s.Reveal()), digest: s.Digest()}
}

func (w *world) key(opens ...events.DeploymentID) key {
	k := newKey()
	w.tell(k.id, &events.Created{Digest: k.digest, Deployments: opens, ExpiresAt: events.Never})
	return k
}

// check asks for the state as the log has it now.
func (w *world) check(secret []byte, deployment string) Answer {
	return w.v.Check(context.Background(), Request{
		Project: "demo", Deployment: deployment, Key: secret, MinSeq: w.last.Seq,
	})
}

func (w *world) requireReason(want projections.Reason, secret []byte, deployment string) {
	w.Helper()
	require.Equal(w, want.String(), w.check(secret, deployment).Reason.String())
}

// promptCommit is one that somebody waits for.
func (w *world) promptCommit() events.Seq {
	w.Helper()
	c := eventlogtest.NewCommit(w, w.last, 1)
	c.Prompt = true
	entry, err := w.log.Append(context.Background(), w.last, c)
	require.NoError(w, err)
	w.last = eventlogtest.Behind(entry)
	return w.last.Seq
}

// refusing is a registry that refuses once with an error.
type refusing struct {
	uplink
	with error
	once atomic.Bool
}

func (r *refusing) Renew(ctx context.Context, ask head.Renewal) ([]byte, error) {
	if r.once.CompareAndSwap(true, false) {
		return nil, r.with
	}
	return r.uplink.Renew(ctx, ask)
}

// leaving is a registry that gives leave to rebuild once now is set.
type leaving struct {
	uplink
	now atomic.Bool
}

func (l *leaving) Renew(ctx context.Context, ask head.Renewal) ([]byte, error) {
	return l.hub.RenewAs(ctx, ask, func(g *head.Grant) { g.Rebuild = ask.WantsToRebuild && l.now.Load() })
}

// slotRecord reads what the world's verifier must not forget, as the next process would.
func slotRecord(t *testing.T, w *world) (record []byte, err error) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.opts.RunDir, "instance"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "instance")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	f, record, err := slot.Open(path)
	require.NoError(t, err)
	return record, f.Close()
}

var regexpBoot = regexp.MustCompile(`"boot":"[^"]*"`)

func placeOfDir(dir string) (place, error) {
	f, _, err := slot.Open(filepath.Join(dir, "probe"))
	if err != nil {
		return place{}, err
	}
	p, err := placeOf(f, dir)
	return p, errors.Join(err, f.Close())
}
