package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
)

const (
	tortureLease = 2 * time.Second
	edgesThere   = 4
	writersThere = 24
	checkPause   = 500 * time.Microsecond // and as many checks as a machine of few cores bears
)

// TestTorture changes keys and checks them while networks, verifiers and registries fail, and then holds what was seen against what was
// promised: see history. KEYFLEET_TORTURE=10m makes it longer.
func TestTorture(t *testing.T) {
	long := 12 * time.Second
	if text := os.Getenv("KEYFLEET_TORTURE"); text != "" {
		var err error
		long, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	w := startWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var all sync.WaitGroup
	for i := range w.writers {
		all.Go(func() { w.write(ctx, i) })
	}
	for i := range w.sites {
		all.Go(func() { w.read(ctx, i) })
	}
	w.fail(ctx)
	all.Wait()

	checks := 0
	for _, h := range w.all {
		checks += h.check(t, h.name)
	}
	t.Logf("%d checks answered, %d accepted, of %d keys; %d verdicts, %d of them fenced; faults: %v",
		checks, w.accepted.Load(), len(w.all), w.verdicts.Load(), w.fenced.Load(), w.faults)
	assert.Greater(t, checks, 50_000, "it tests nothing when it hardly checks")
	assert.NotZero(t, w.accepted.Load())
}

// world is two registries and a few verifiers, each behind a network of its own.
type world struct {
	*testing.T
	fleet   *fleet
	sites   [edgesThere]*site
	hubs    [2]*hub
	writers [writersThere]atomic.Pointer[secret] // the newest key of each
	random  *rand.Rand
	faults  map[string]int

	mu  sync.Mutex
	all []*secret

	accepted, verdicts, fenced atomic.Int64
}

// secret is a key, and what was seen of it.
type secret struct {
	history
	name   string
	secret apikey.Secret
	before *secret // that its writer had
}

// site is where a verifier runs, and runs again.
type site struct {
	name, dir, run string
	net            *proxy
	now            atomic.Pointer[edge]
}

// hub is where a registry runs.
type hub struct {
	name, dir string
	net       *proxy
	svc       *registry.Service
	stop      func()
}

func startWorld(t *testing.T) *world {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := newFleet(t)
	eventlogtest.Age(t, f.server.Connect(), tortureLease)
	w := &world{T: t, fleet: f, random: rand.New(rand.NewPCG(seed, 0)), faults: map[string]int{}}
	for i := range w.hubs {
		w.hubs[i] = &hub{name: fmt.Sprintf("hub-%d", i), dir: t.TempDir(), net: startProxy(t, f.server.ClientURL())}
		w.hubs[i].start(f)
	}
	c := natsapi.NewClient(f.server.Connect(), "bench", "bench")
	require.NoError(t, c.Do(t.Context(), registry.DeploymentRegister, registry.Request{Name: "llama"}, nil))
	run, err := os.MkdirTemp("/dev/shm", "keyfleet-torture-") //nolint:usetesting // only on tmpfs does an instance go on
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	for i := range w.sites {
		name := fmt.Sprintf("edge-%d", i)
		w.sites[i] = &site{name: name, dir: t.TempDir(), run: filepath.Join(run, name), net: startProxy(t, f.server.ClientURL())}
		w.sites[i].start(f)
	}
	return w
}

func (h *hub) start(f *fleet) { h.svc, h.stop = f.runRegistry(h.name, h.dir, h.net.url()) }

func (s *site) start(f *fleet) {
	e := f.reopenVerifier(s.name, s.dir, s.net.url(), verifier.Options{CacheBytes: 1 << 20, RunDir: s.run, RenewEvery: 300 * time.Millisecond})
	e.start()
	s.now.Store(e)
}

// write takes keys through their lives, one after the other. Every command comes to a final verdict before the next.
func (w *world) write(ctx context.Context, i int) {
	c := natsapi.NewClient(w.fleet.server.Connect(), "bench", "bench")
	random := rand.New(rand.NewPCG(uint64(i), 1))
	for n := 0; ctx.Err() == nil; n++ {
		k := &secret{name: fmt.Sprintf("key-%d-%d", i, n), secret: apikey.Generate(), before: w.writers[i].Load()}
		w.mu.Lock()
		w.all = append(w.all, k)
		w.mu.Unlock()
		w.writers[i].Store(k)
		llama := &[]string{"llama"}
		w.do(c, k, true, registry.KeyCreate, registry.Request{Name: k.name, Deployments: llama, Digest: k.secret.Digest().String(), Hint: k.secret.Hint()})
		for range random.IntN(4) {
			if random.IntN(2) == 0 {
				w.do(c, k, false, registry.KeyDisable, registry.Request{Key: k.name})
				w.do(c, k, true, registry.KeyEnable, registry.Request{Key: k.name})
			} else {
				w.do(c, k, false, registry.KeyDetach, registry.Request{Key: k.name, Deployments: llama})
				w.do(c, k, true, registry.KeyAttach, registry.Request{Key: k.name, Deployments: llama})
			}
		}
		w.do(c, k, false, registry.KeyDelete, registry.Request{Key: k.name})
	}
}

// do sends a command and waits for its verdict.
func (w *world) do(c *natsapi.Client, k *secret, allows bool, verb registry.Verb, r registry.Request) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r.Wait, r.WaitTimeout = registry.WaitConfirmed, "1s"
	var reply registry.KeyReply
	sent := sinceStart()
	if !assert.NoError(w, c.Do(ctx, verb, r, &reply)) {
		return
	}
	state := reply.Confirmation.State
	for state != "confirmed" && state != "fenced" {
		var later registry.ReceiptReply
		if !assert.NoError(w, c.Do(ctx, registry.FleetConfirm, registry.Request{Seq: uint64(reply.Seq), WaitTimeout: "1s"}, &later)) {
			return
		}
		state = later.Confirmation.State
	}
	k.wrote(allows, sent)
	if !allows {
		time.Sleep(time.Duration(rand.Int64N(int64(100 * time.Millisecond)))) // to see whether anybody accepts, before it may again
	}
	w.verdicts.Add(1)
	if state == "fenced" {
		w.fenced.Add(1)
	}
}

// read checks keys at one site.
func (w *world) read(ctx context.Context, i int) {
	random := rand.New(rand.NewPCG(uint64(i), 2))
	for ctx.Err() == nil {
		for range 10 {
			k := w.writers[random.IntN(writersThere)].Load()
			if k != nil && random.IntN(4) == 0 && k.before != nil {
				k = k.before
			}
			if k != nil {
				w.check(ctx, w.sites[i], k)
			}
		}
		time.Sleep(checkPause)
	}
}

func (w *world) check(ctx context.Context, s *site, k *secret) {
	e := s.now.Load()
	begun := sinceStart()
	a := e.Check(ctx, verifier.Request{Project: "bench", Deployment: "llama", Key: []byte(k.secret.Reveal())})
	ended := sinceStart()
	if a.Reason == projections.NotFresh || a.Reason == projections.Broken {
		return // no answer
	}
	k.read(s.name, a.Allowed(), begun, ended)
	if a.Allowed() {
		w.accepted.Add(1)
	}
}
