package registry_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
)

// office elects whoever asks, as an election that errs would.
type office struct {
	mu       sync.Mutex
	revision uint64
	lease    time.Duration
}

func (o *office) Win(ctx context.Context) (registry.Leadership, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revision++
	return &seat{o, o.revision}, nil
}

func (o *office) setLease(until time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lease = until
}

type seat struct {
	*office
	revision uint64
}

func (s *seat) Revision() uint64 { return s.revision }
func (s *seat) Resign()          {}
func (s *seat) SelfLease() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// hub is one registry on a log, with its parts within reach.
type hub struct {
	*registry.Service
	log     *eventlogtest.Memory
	hooks   *hooked
	catalog *catalog.Catalog
	office  *office
	clock   *clock.Manual
	heard   chan registry.Event
	opts    registry.Options
	ended   chan error // what Run returned
	stop    func()
}

const longLease = 1000 * time.Hour

// world is what registries share: the log, and the time of day.
type world struct {
	log   *eventlogtest.Memory
	clock *clock.Manual
	creep *atomic.Bool // each look at the registry's clock takes a millisecond
}

type creeping struct{ world }

func (c creeping) Elapsed() time.Duration { return c.clock.Elapsed() }

func (c creeping) Both() (time.Time, time.Duration) { return c.Now(), c.Elapsed() }

func (c creeping) Now() time.Time {
	if c.creep.Load() {
		c.clock.Advance(time.Millisecond)
	}
	return c.clock.Now()
}

func newWorld() world {
	w := world{eventlogtest.NewMemory(), clock.NewManual(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), &atomic.Bool{}}
	w.log.Clock = w.clock.Now
	return w
}

// openHub makes a registry that does not run yet.
func openHub(t testing.TB, w world, dir string, change ...func(*registry.Options, *catalog.Options)) *hub {
	t.Helper()
	opts := registry.Options{Name: "hub", Clock: creeping{w}, SigningKey: eventlogtest.SigningKey}
	var catalogOpts catalog.Options
	for _, f := range change {
		f(&opts, &catalogOpts)
	}
	cat, err := catalog.Open(dir, catalogOpts)
	require.NoError(t, err)
	heads, err := registry.OpenHeadFile(dir)
	require.NoError(t, err)
	var once sync.Once
	h := &hub{
		log: w.log, hooks: &hooked{Memory: w.log}, catalog: cat, office: &office{lease: longLease}, clock: w.clock,
		heard: make(chan registry.Event, 1<<16),
		stop: func() {
			once.Do(func() {
				require.NoError(t, cat.Close())
				require.NoError(t, heads.Close())
			})
		},
	}
	h.opts = opts
	h.opts.Observe, h.opts.Heads = func(e registry.Event) { h.heard <- e }, heads
	h.Service = registry.NewService(h.hooks, cat, h.office, h.opts)
	t.Cleanup(func() { h.stop() })
	return h
}

func startHub(t testing.TB, w world, dir string, change ...func(*registry.Options, *catalog.Options)) *hub {
	t.Helper()
	h := openHub(t, w, dir, change...)
	h.start(t)
	return h
}

// start runs it until stop, and returns once it leads.
func (h *hub) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	h.ended = make(chan error, 1)
	go func() {
		defer close(done)
		h.ended <- h.Run(ctx)
	}()
	closeCatalog := h.stop
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			closeCatalog()
		})
	}
	hear[registry.TermOpened](t, h)
}

// hear waits for an event of the type.
func hear[E registry.Event](t testing.TB, h *hub) E {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e := <-h.heard:
			if want, ok := e.(E); ok {
				return want
			}
		case <-timeout:
			var want E
			require.Failf(t, "not heard", "%T", want)
		}
	}
}

func (h *hub) do(t *testing.T, verb registry.Verb, r registry.Request) (any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return h.Do(ctx, registry.Command{Project: "acme", Actor: "alice", Verb: verb, Request: r})
}

func (h *hub) must(t *testing.T, verb registry.Verb, r registry.Request) *registry.KeyReply {
	t.Helper()
	reply, err := h.do(t, verb, r)
	require.NoError(t, err)
	return reply.(*registry.KeyReply)
}

func requireRefusal(t *testing.T, code registry.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, registry.AsRefusal(err).Code, err.Error())
}

func TestCreateAndRestart(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := startHub(t, w, dir)
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"})
	assert.NotEmpty(t, made.Secret)
	assert.Equal(t, "recorded", made.Confirmation.State)
	again := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"})
	assert.True(t, again.Replayed)
	assert.Empty(t, again.Secret)
	assert.Equal(t, made.Seq, again.Seq)
	h.stop()

	h = startHub(t, w, dir)
	got := h.must(t, registry.KeyGet, registry.Request{Key: "demo-key"})
	assert.Equal(t, made.ID, got.ID)
	again = h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"})
	assert.True(t, again.Replayed, "one effect per command id, also after a restart")
	h.stop()

	h = startHub(t, w, t.TempDir())
	got = h.must(t, registry.KeyGet, registry.Request{Key: "demo-key"})
	assert.Equal(t, made.KeyView, got.KeyView, "an empty catalog is folded anew from the log")
}

// TestGroups has many callers while an append is under way: their commands share the next commit.
func TestGroups(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	entered, release := make(chan struct{}), make(chan struct{})
	h.log.Inject(eventlogtest.Fault{Before: func() { close(entered); <-release }})
	const callers = 500
	var wg sync.WaitGroup
	seqs := make([]events.Seq, callers)
	create := func(i int) {
		reply, err := h.do(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%03d", i)})
		if assert.NoError(t, err) {
			seqs[i] = reply.(*registry.KeyReply).Seq
		}
	}
	wg.Go(func() { create(0) })
	<-entered
	for i := 1; i < callers; i++ {
		wg.Go(func() { create(i) })
	}
	require.Eventually(t, func() bool { return h.Asking() == callers && h.Waiting() == 0 }, 20*time.Second, time.Millisecond)
	close(release)
	wg.Wait()
	seen := map[events.Seq]bool{}
	for _, s := range seqs {
		assert.False(t, seen[s])
		seen[s] = true
	}
	last, err := h.log.Last(t.Context())
	require.NoError(t, err)
	assert.Equal(t, events.Seq(2+1+callers), last.Commit.Last(), "log, term and project opened, then the keys")
	assert.Equal(t, uint64(4), last.StreamSeq, "commits: log, term, the first caller's, everybody else's")
}

// TestDoAll: commands that one caller brings together are decided in their order, and each has its own outcome.
func TestDoAll(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	command := func(verb registry.Verb, r registry.Request) registry.Command {
		return registry.Command{Project: "acme", Actor: "alice", Verb: verb, Request: r}
	}
	cmds := []registry.Command{
		command(registry.KeyCreate, registry.Request{Name: "first-key"}),
		command(registry.KeyCreate, registry.Request{Name: "first-key"}),
		command(registry.KeyCreate, registry.Request{Name: "no name"}),
		command(registry.KeyGet, registry.Request{Key: "first-key"}),
		command(registry.KeyCreate, registry.Request{}),
		command(registry.KeyCreate, registry.Request{Name: "last-key"}),
		command(registry.KeyDelete, registry.Request{Key: "last-key", Wait: registry.WaitConfirmed}),
	}
	replies, errs := make([]any, len(cmds)), make([]error, len(cmds))
	var order []int
	note := func(i int, reply any, err error) { order, replies[i], errs[i] = append(order, i), reply, err }
	h.DoAll(t.Context(), cmds, note)
	require.Equal(t, []int{3, 4, 6, 0, 1, 2, 5}, order, "what is refused as it is waits for nothing")
	for at, name := range map[int]string{0: "first-key", 5: "last-key"} {
		require.NoError(t, errs[at])
		assert.Equal(t, name, replies[at].(*registry.KeyReply).Name)
	}
	for at, code := range map[int]registry.Code{1: registry.NameTaken, 2: registry.Invalid, 3: registry.Invalid, 4: registry.Invalid, 6: registry.Invalid} {
		requireRefusal(t, code, errs[at])
	}
	assert.Zero(t, h.Asking())
	h.DoAll(t.Context(), nil, note)
	require.Len(t, order, len(cmds))

	h.stop()
	h.DoAll(t.Context(), cmds[:1], func(_ int, _ any, err error) { requireRefusal(t, registry.Unavailable, err) })
}

// TestRefusalWaitsForWhatItRestsOn: a name is taken by a command that is not durable yet. If that one is
// lost, the refusal must not have been said.
func TestRefusalWaitsForWhatItRestsOn(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	entered, release := make(chan struct{}), make(chan struct{})
	h.log.Inject(
		eventlogtest.Fault{Before: func() { close(entered); <-release }}, // so that the next two share a group
		eventlogtest.Fault{LoseRequest: true},
	)
	first := make(chan error, 1)
	go func() { _, err := h.do(t, registry.KeyCreate, registry.Request{Name: "first"}); first <- err }()
	<-entered
	outcomes := make(chan error, 2)
	for range 2 {
		go func() { _, err := h.do(t, registry.KeyCreate, registry.Request{Name: "twin"}); outcomes <- err }()
	}
	require.Eventually(t, func() bool { return h.Asking() == 3 && h.Waiting() == 0 }, 10*time.Second, time.Millisecond)
	close(release)
	require.NoError(t, <-first)
	for range 2 {
		requireRefusal(t, registry.Unavailable, <-outcomes)
	}
	hear[registry.TermOpened](t, h)
	h.must(t, registry.KeyCreate, registry.Request{Name: "twin"})
}

// TestRefusalRestsOnTheGroupBefore: here the name is taken by a command of the commit before, which is still on its way.
func TestRefusalRestsOnTheGroupBefore(t *testing.T) {
	for _, lost := range []bool{false, true} {
		h := startHub(t, newWorld(), t.TempDir())
		entered, release := make(chan struct{}), make(chan struct{})
		h.log.Inject(eventlogtest.Fault{Before: func() { close(entered); <-release }, LoseRequest: lost})
		create := func(answer chan<- error) {
			_, err := h.do(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
			answer <- err
		}
		first, second := make(chan error, 1), make(chan error, 1)
		go create(first)
		<-entered
		go create(second)
		require.Eventually(t, func() bool { return h.Asking() == 2 && h.Waiting() == 0 }, 10*time.Second, time.Millisecond)
		require.Empty(t, second, "what it rests on is not durable")
		close(release)
		if lost {
			requireRefusal(t, registry.Unavailable, <-first)
			requireRefusal(t, registry.Unavailable, <-second)
		} else {
			require.NoError(t, <-first)
			requireRefusal(t, registry.NameTaken, <-second)
		}
		h.stop()
	}
}

func TestLostAck(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	h.log.Inject(eventlogtest.Fault{LoseAck: true})
	_, err := h.do(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"})
	requireRefusal(t, registry.Unavailable, err)
	hear[registry.TermOpened](t, h)
	again := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"})
	assert.True(t, again.Replayed, "it had taken effect")
	list, err := h.do(t, registry.KeyList, registry.Request{})
	require.NoError(t, err)
	assert.Equal(t, 1, list.(*registry.KeyPage).Count)
}

// TestTwoRegistries are both elected. The log lets one be the active one; the other steps down at its
// first append, and answers nothing that it decided.
func TestTwoRegistries(t *testing.T) {
	w := newWorld()
	a := startHub(t, w, t.TempDir())
	a.must(t, registry.KeyCreate, registry.Request{Name: "from-a", CommandID: "c1"})
	b := startHub(t, w, t.TempDir())
	again := b.must(t, registry.KeyCreate, registry.Request{Name: "from-a", CommandID: "c1"})
	assert.True(t, again.Replayed, "one effect per command id, also across two registries")

	before, err := w.log.Last(t.Context())
	require.NoError(t, err)
	_, err = a.do(t, registry.KeyCreate, registry.Request{Name: "from-a-late", CommandID: "c2"})
	requireRefusal(t, registry.Unavailable, err)
	hear[registry.SteppedDown](t, a)
	next, err := w.log.Read(t.Context(), before.StreamSeq+1)
	if err == nil {
		_, opened := next.Commit.Events()[0].Fact.(*events.TermOpened)
		assert.True(t, opened, "whoever is elected next opens a term; nothing of the old one comes after")
	}
}

func TestSelfLease(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	h.office.setLease(h.clock.Elapsed())
	_, err := h.do(t, registry.KeyGet, registry.Request{Key: "demo-key"})
	requireRefusal(t, registry.Unavailable, err)
	_, err = h.do(t, registry.KeyDelete, registry.Request{Key: "demo-key"})
	requireRefusal(t, registry.Unavailable, err)
	h.office.setLease(longLease)
	hear[registry.TermOpened](t, h)
	h.must(t, registry.KeyGet, registry.Request{Key: "demo-key"})
}

func TestExpiry(t *testing.T) {
	w := newWorld()
	h := startHub(t, w, t.TempDir())
	hear[registry.ClockTrusted](t, h)
	at := "2027-01-01T00:00:05Z"
	for i := range 600 {
		h.must(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%03d", i), ExpiresAt: &at})
	}
	h.clock.Advance(5*time.Second - time.Millisecond)
	other := "2027-01-02"
	h.must(t, registry.KeyCreate, registry.Request{Name: "other", ExpiresAt: &other}) // and nothing due yet
	before, err := w.log.Last(t.Context())
	require.NoError(t, err)
	_, isCreated := before.Commit.Events()[0].Fact.(*events.Created)
	require.True(t, isCreated)
	h.clock.Advance(time.Millisecond)
	for expired := 0; expired < 600; {
		expired += hear[registry.Committed](t, h).Expired
	}
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before.Commit.Last()+600, last.Commit.Last(), "each once")
	assert.Equal(t, registry.Expired, h.must(t, registry.KeyGet, registry.Request{Key: "key-599"}).Status)
}

// TestClockDoubted: a clock that is far from the log servers' records no ends of lifetimes, while commands go on.
func TestClockDoubted(t *testing.T) {
	w := newWorld()
	h := startHub(t, w, t.TempDir())
	hear[registry.ClockTrusted](t, h)
	at := "2027-06-01"
	h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", ExpiresAt: &at})
	rightly := h.clock.Now()
	h.clock.Step(rightly.AddDate(1, 0, 0)) // a year ahead
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "meanwhile"})
	last, err := w.log.Last(t.Context())
	require.NoError(t, err)
	assert.Equal(t, made.Seq, last.Commit.Last(), "nothing expired behind it")
	assert.Less(t, last.Commit.Time, events.InstantOf(rightly.Add(time.Minute)), "nothing is dated by a doubted clock")
	graceful := h.must(t, registry.KeyRotate, registry.Request{Key: "meanwhile"})
	assert.Less(t, *graceful.GraceUntil, events.InstantOf(rightly.Add(25*time.Hour)))
	h.clock.Step(rightly)
	h.must(t, registry.KeyDelete, registry.Request{Key: "meanwhile"})
	assert.Equal(t, registry.Active, h.must(t, registry.KeyGet, registry.Request{Key: "demo-key"}).Status)
}

func TestQueries(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	_, err := h.do(t, registry.DeploymentRegister, registry.Request{Name: "llama"})
	require.NoError(t, err)
	llama := []string{"llama"}
	for i := range 25 {
		h.must(t, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%02d", i), Deployments: &llama})
	}
	list := func(r registry.Request) *registry.KeyPage {
		reply, err := h.do(t, registry.KeyList, r)
		require.NoError(t, err)
		return reply.(*registry.KeyPage)
	}
	page := list(registry.Request{Limit: 10, Offset: 20})
	assert.Equal(t, 25, page.Count)
	require.Len(t, page.Results, 5)
	assert.Equal(t, "key-20", page.Results[0].Name)
	assert.Equal(t, llama, page.Results[0].DeploymentNames)
	assert.Equal(t, "key-24", list(registry.Request{OrderBy: "-name"}).Results[0].Name)
	found := list(registry.Request{Search: "KEY-1", Limit: 3})
	assert.Equal(t, 10, found.Count)
	assert.Len(t, found.Results, 3)
	_, err = h.do(t, registry.KeyList, registry.Request{OrderBy: "colour"})
	requireRefusal(t, registry.Invalid, err)

	reply, err := h.do(t, registry.DeploymentGet, registry.Request{Name: "llama"})
	require.NoError(t, err)
	assert.Len(t, reply.(*registry.DeploymentReply).Keys, 25)
	assert.Equal(t, 25, *reply.(*registry.DeploymentReply).KeyCount)

	made := h.must(t, registry.KeyCreate, registry.Request{Name: "known"})
	secret := made.Secret
	who := h.must(t, registry.KeyIdentify, registry.Request{Digest: digestOf(secret)})
	assert.Equal(t, made.ID, who.ID)
	h.must(t, registry.KeyDelete, registry.Request{Key: "known"})
	_, err = h.do(t, registry.KeyIdentify, registry.Request{Digest: digestOf(secret)})
	requireRefusal(t, registry.NotFound, err)

	reply, err = h.do(t, registry.KeyHistory, registry.Request{Key: made.ID})
	require.NoError(t, err)
	history := reply.(*registry.HistoryPage)
	require.Len(t, history.Results, 2, "a deleted key's history is found by its id")
	assert.Equal(t, events.TypeDeleted, history.Results[0].Type)
	_, err = h.Do(t.Context(), registry.Command{Project: "evil", Actor: "eve", Verb: registry.KeyHistory, Request: registry.Request{Key: made.ID}})
	requireRefusal(t, registry.NotFound, err)
}

func digestOf(secret string) string { return apikey.DigestOf([]byte(secret)).String() }
