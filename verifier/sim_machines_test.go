package verifier_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier"
)

// disk is a file system that forgets what was not synced, and can be looked at as it is at a write.
type disk struct {
	mem    *vfs.MemFS
	random *rand.Rand

	mu     sync.Mutex
	writes int        // until the machine fails; below 0: it does not
	left   *vfs.MemFS // by that failure
}

func newDisk(mem *vfs.MemFS, random *rand.Rand) *disk {
	return &disk{mem: mem, random: random, writes: -1}
}

func (d *disk) fs() vfs.FS { return errorfs.Wrap(d.mem, d) }

func (*disk) String() string { return "a disk that is looked at" }

func (d *disk) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.writes == 0 && d.left == nil {
			d.left = d.after()
		}
		d.writes--
	}
	return nil
}

// after is what a crash at this moment leaves: all that was written, as a kill does, or only what was synced, as a loss of power.
func (d *disk) after() *vfs.MemFS {
	return d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: d.random.IntN(2) * 100, RNG: rand.New(rand.NewPCG(d.random.Uint64(), 3))})
}

// failsAt has the machine fail at one of the writes to come.
func (d *disk) failsAt(write int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes = write
}

// afterThat is what the failure left, or a clean stop.
func (d *disk) afterThat() *vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left != nil {
		return d.left
	}
	return d.mem
}

// quartz is a machine's clock: it runs a little fast or slow, and its wall clock can be set.
type quartz struct {
	rate    int64 // per mille
	started time.Time
	off     atomic.Int64
}

func (q *quartz) Elapsed() time.Duration {
	return time.Hour + time.Duration(time.Since(q.started).Nanoseconds()/1000*q.rate)
}

func (q *quartz) Now() time.Time                   { return time.Now().Add(time.Duration(q.off.Load())) }
func (q *quartz) Both() (time.Time, time.Duration) { return q.Now(), q.Elapsed() }

// memo keeps a head as a HeadFile does.
type memo struct {
	mu   sync.Mutex
	kept registry.SignedHead
	has  bool
}

func (m *memo) Keep(s registry.SignedHead) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept, m.has = s, true
	return nil
}

func (m *memo) Note(s registry.SignedHead) error { return m.Keep(s) }

func (m *memo) Kept() (registry.SignedHead, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, m.has
}

// hub is a machine with a registry.
type hub struct {
	w     *world
	name  string
	clock *quartz
	disk  *disk
	heads *memo

	svc     *registry.Service
	catalog *catalog.Catalog
	line    *line // to everybody
	end     func()
	ended   chan error

	mu    sync.Mutex
	open  bool
	calls *sync.WaitGroup // that are under way
}

// enter gives the registry, if it runs and can be reached, to one who says when it is done.
func (h *hub) enter() (svc *registry.Service, done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open || !h.line.quick() {
		return nil, nil
	}
	h.calls.Add(1)
	return h.svc, h.calls.Done
}

func (h *hub) setOpen(open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = open
}

func (h *hub) start() {
	var err error
	h.catalog, err = catalog.Open("catalog", catalog.Options{FS: h.disk.fs(), CacheBytes: 1 << 20})
	h.w.must(err)
	h.line = newLine(h.w)
	h.svc = registry.NewService(&distantLog{Memory: h.w.log, line: h.line}, h.catalog, candidate{h.w.office, h, h.line}, registry.Options{
		Name: h.name, Clock: h.clock, SigningKey: eventlogtest.SigningKey, Heads: h.heads,
	})
	ctx, cancel := context.WithCancel(context.Background())
	h.end, h.ended = cancel, make(chan error, 1)
	go func(svc *registry.Service, ended chan error) { ended <- svc.Run(ctx) }(h.svc, h.ended)
	h.calls = &sync.WaitGroup{}
	h.setOpen(true)
}

// crash kills the machine, and starts it again.
func (h *hub) crash() {
	h.line.die()
	left := h.disk.after()
	h.stop()
	h.disk = newDisk(left, h.w.random)
	h.start()
}

// restart stops it, cleanly or so that it fails at a write while it stops.
func (h *hub) restart(failsAt int) {
	h.disk.failsAt(failsAt)
	h.stop()
	h.disk = newDisk(h.disk.afterThat(), h.w.random)
	h.start()
}

func (h *hub) stop() {
	h.setOpen(false)
	h.end()
	if err := <-h.ended; !errors.Is(err, context.Canceled) {
		h.w.breaks("registry %s ended with: %v", h.name, err)
	}
	h.calls.Wait()
	h.w.must(h.catalog.Close())
}

// edge is a machine with a verifier.
type edge struct {
	w     *world
	name  string
	clock *quartz
	disk  *disk
	run   string // on tmpfs

	*verifier.Verifier
	source, uplink *line
	end            func()
	ended          chan error
	told           *vouched
}

func (e *edge) start() {
	e.source, e.uplink, e.told = newLine(e.w), newLine(e.w), &vouched{}
	opts := verifier.Options{
		Source: &distantLog{Memory: e.w.log, line: e.source}, Uplink: &distantHubs{e.w, e.name, e.uplink, e.told},
		LogKeys: []events.PublicKey{events.PublicKey(eventlogtest.SigningKey[32:])},
		Name:    e.name, RunDir: e.run, Clock: e.clock, CacheBytes: 1 << 20, Listen: e.told.notice,
	}
	opts.PutIndexOn(e.disk.fs())
	var err error
	e.Verifier, err = verifier.Open("verifier", opts)
	e.w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	e.end, e.ended = cancel, make(chan error, 1)
	go func(v *verifier.Verifier, ended chan error) { ended <- v.Run(ctx) }(e.Verifier, e.ended)
}

// crash kills the process, and starts it again. What it keeps on tmpfs is as it was.
func (e *edge) crash() {
	e.source.die()
	e.uplink.die()
	left := e.disk.after()
	kept, err := os.ReadFile(filepath.Join(e.run, "instance"))
	e.w.must(err)
	e.stop()
	e.w.must(os.WriteFile(filepath.Join(e.run, "instance"), kept, 0o600))
	e.disk = newDisk(left, e.w.random)
	e.start()
}

// restart stops it, cleanly or so that it fails at a write while it stops.
func (e *edge) restart(failsAt int) {
	e.disk.failsAt(failsAt)
	e.stop()
	e.disk = newDisk(e.disk.afterThat(), e.w.random)
	e.start()
}

// restartUnheard is clean but for the goodbye, and nothing that is granted arrives: it goes on as the same instance by what it has.
func (e *edge) restartUnheard() {
	e.uplink.die()
	e.restart(-1)
	e.uplink.set(func() { e.uplink.mute = true })
}

// reboot takes away what tmpfs kept, too.
func (e *edge) reboot() {
	e.source.die()
	e.uplink.die()
	left := e.disk.after()
	e.stop()
	e.w.must(os.RemoveAll(e.run))
	e.disk = newDisk(left, e.w.random)
	e.start()
}

func (e *edge) stop() {
	e.end()
	e.w.must(<-e.ended)
	e.w.must(e.Close())
}
