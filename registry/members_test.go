package registry_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
)

// edge is a verifier as a registry sees it.
type edge struct {
	*hub
	t      *testing.T
	name   string
	as     events.InstanceID
	ticket head.Ticket
	newest []byte
	at     head.Head
	join   *head.Join

	clockAhead time.Duration // of its own clock
}

func (h *hub) edge(t *testing.T, name string, mode events.Mode) *edge {
	join := &head.Join{PoP: "pop-of-" + name, Mode: mode, Version: "1"}
	if mode == events.ModeServe {
		join.ServeBound = 3_600_000
	}
	return &edge{hub: h, t: t, name: name, as: events.NewID(), join: join}
}

func (e *edge) ask() (head.Grant, error) {
	r := head.Renewal{
		Ack: head.Ack{Instance: e.as, Head: e.at}, Ticket: e.ticket, Newest: e.newest, Join: e.join, Schema: 1, State: "serving",
		Wall: events.InstantOf(e.clock.Now().Add(e.clockAhead)),
	}
	_, _ = rand.Read(r.Nonce[:])
	signed, err := e.Renew(e.t.Context(), e.name, r)
	if err != nil {
		return head.Grant{}, err
	}
	g, err := head.Open(signed, events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:]))
	require.NoError(e.t, err)
	require.Equal(e.t, r.Nonce, g.Nonce)
	e.ticket, e.newest = g.Ticket, signed
	return g, nil
}

// renews takes a grant, and applies what it says there is.
func (e *edge) renews() head.Grant {
	e.t.Helper()
	g, err := e.ask()
	require.NoError(e.t, err)
	e.at = g.Head
	return g
}

func (e *edge) acks() { e.Acknowledge(e.name, head.Ack{Instance: e.as, Head: e.end()}) }

// end is where the log ends, by the log itself.
func (e *edge) end() head.Head {
	last, err := e.log.Last(e.t.Context())
	require.NoError(e.t, err)
	return head.Head{Incarnation: last.Commit.Incarnation, Seq: last.Commit.Last(), Chain: last.Chain}
}

// waits sends a command that waits for the fleet, and gives what it will be answered.
func (h *hub) waits(t *testing.T, verb registry.Verb, r registry.Request, timeout string) <-chan *registry.Confirmation {
	r.Wait, r.WaitTimeout = registry.WaitConfirmed, timeout
	answered := make(chan *registry.Confirmation, 1)
	go func() {
		reply, err := h.do(t, verb, r)
		if assert.NoError(t, err) {
			answered <- reply.(*registry.KeyReply).Confirmation
		}
	}()
	return answered
}

func (h *hub) receipt(t *testing.T, seq events.Seq) *registry.Confirmation {
	t.Helper()
	reply, err := h.Do(t.Context(), registry.Command{Actor: "alice", Verb: registry.FleetConfirm, Request: registry.Request{Seq: uint64(seq)}})
	require.NoError(t, err)
	return reply.(*registry.ReceiptReply).Confirmation
}

// knows waits until the registry has heard that the log has come to the Seq, which the log itself says earlier.
func (h *hub) knows(t *testing.T, seq events.Seq) {
	t.Helper()
	require.Eventually(t, func() bool { return h.fleet(t).Seq >= seq }, 20*time.Second, time.Millisecond)
}

func (h *hub) fleet(t *testing.T) *registry.FleetView {
	t.Helper()
	reply, err := h.Do(t.Context(), registry.Command{Actor: "alice", Verb: registry.FleetStatus})
	require.NoError(t, err)
	return reply.(*registry.FleetView)
}

func (h *hub) members(t *testing.T) map[string]registry.VerifierView {
	t.Helper()
	all := map[string]registry.VerifierView{}
	for _, v := range h.fleet(t).Verifiers {
		all[v.Verifier] = v
	}
	return all
}

func TestAGrantCarriesTheNewestDurableHead(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := startHub(t, w, dir)
	e := h.edge(t, "fra-1", events.ModeDeny)
	g := e.renews()
	assert.Equal(t, e.end(), g.Head, "its own registration included")
	assert.Equal(t, 10*time.Minute, g.Lease)
	assert.Equal(t, uint64(1), g.Term)
	assert.NotZero(t, g.Attested)
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	g = e.renews()
	assert.Equal(t, made.Seq, g.Seq)
	kept, has := h.opts.Heads.Kept()
	assert.True(t, has)
	assert.Equal(t, g.Head, kept.Head, "kept before it was signed")
	_, root := h.catalog.Head()
	assert.Equal(t, [32]byte(root), g.Root)
}

func TestConfirmedIsWhenTheLastHasIt(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a, b := h.edge(t, "fra-1", events.ModeDeny), h.edge(t, "ams-1", events.ModeServe)
	a.renews()
	b.renews()
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	a.acks()
	answer := h.waits(t, registry.KeyDelete, registry.Request{Key: "demo-key"}, "20s")
	h.knows(t, made.Seq+1)
	last, err := h.log.Last(t.Context())
	require.NoError(t, err)
	assert.True(t, last.Commit.Prompt, "somebody waits for it")
	a.acks()
	pending := h.receipt(t, made.Seq+1)
	assert.Equal(t, "pending", pending.State)
	assert.Equal(t, 1, pending.Acked)
	require.Len(t, pending.Waiting, 1)
	assert.Equal(t, "ams-1", pending.Waiting[0].Verifier)
	assert.Nil(t, pending.Waiting[0].StopsAt, "it serves on")
	assert.Nil(t, pending.FencedAt)
	h.clock.Advance(7 * time.Millisecond)
	wrong := head.Ack{Instance: b.as, Head: b.end()}
	wrong.Chain[0]++
	h.Acknowledge("ams-1", wrong)
	h.Acknowledge("fra-1", head.Ack{Instance: b.as, Head: b.end()})
	assert.Equal(t, 1, h.receipt(t, made.Seq+1).Acked, "of another log, and by another verifier, nothing counts")
	b.acks()
	got := <-answer
	assert.Equal(t, "confirmed", got.State)
	assert.Equal(t, 2, got.Acked)
	require.NotNil(t, got.Slowest)
	assert.Equal(t, "ams-1", got.Slowest.Verifier)
	assert.EqualValues(t, 7, got.Slowest.Ms)
	assert.Equal(t, got, h.receipt(t, made.Seq+1), "the receipt is kept")
	assert.Equal(t, "confirmed", h.receipt(t, made.Seq).State)
}

func TestAReplayWaitsForTheSameVerdict(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a := h.edge(t, "fra-1", events.ModeDeny)
	a.renews()
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"})
	got := <-h.waits(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"}, "0")
	assert.Equal(t, "pending", got.State)
	a.acks()
	got = <-h.waits(t, registry.KeyCreate, registry.Request{Name: "demo-key", CommandID: "c1"}, "20s")
	assert.Equal(t, "confirmed", got.State)
	assert.Equal(t, "confirmed", h.receipt(t, made.Seq).State)
}

func TestFencedOnceEveryLeaseIsOver(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a, gone := h.edge(t, "fra-1", events.ModeDeny), h.edge(t, "ams-1", events.ModeDeny)
	a.renews()
	gone.renews()
	h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	was := h.clock.Now()
	deleted := h.must(t, registry.KeyDelete, registry.Request{Key: "demo-key"})
	a.acks()
	got := h.receipt(t, deleted.Seq)
	require.Equal(t, "pending", got.State)
	const fence = 10*time.Minute + 6*time.Second + time.Second // 1.01 of the lease, and a second
	// The registry that was active before may have granted for its self-lease; here that is the longer wait.
	require.Equal(t, events.InstantOf(was.Add(registry.SelfLease+fence)), *got.FencedAt)
	h.clock.Advance(registry.SelfLease + fence - time.Millisecond)
	require.Equal(t, "pending", h.receipt(t, deleted.Seq).State)
	h.clock.Advance(time.Millisecond)
	got = h.receipt(t, deleted.Seq)
	require.Equal(t, "fenced", got.State)
	require.Len(t, got.Waiting, 1)
	require.Equal(t, gone.as, got.Waiting[0].Instance)
	require.Equal(t, "half_lease", h.members(t)["ams-1"].Alarms[0])
	h.clock.Advance(fence)
	require.Eventually(t, func() bool { return len(h.members(t)) == 0 }, 20*time.Second, time.Millisecond, "both have lapsed by now")
	_, err := gone.ask()
	require.NoError(t, err, "it still says how it would join")
	gone.join = nil
	gone.as = events.NewID()
	_, err = gone.ask()
	requireRefusal(t, registry.Stranger, err)
}

func TestAReleaseIsOnSomebodysWord(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a := h.edge(t, "fra-1", events.ModeServe)
	a.renews()
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	release := registry.Command{Actor: "alice", Verb: registry.FleetRelease, Request: registry.Request{Instance: a.as.String(), Reason: "shredded"}}
	_, err := h.Do(t.Context(), release)
	require.NoError(t, err)
	got := h.receipt(t, made.Seq)
	require.Equal(t, "confirmed", got.State)
	require.Len(t, got.Released, 1)
	require.Equal(t, "alice", got.Released[0].AssertedBy)
	require.Equal(t, "shredded", got.Released[0].Reason)
	_, err = a.ask()
	requireRefusal(t, registry.Released, err)
	_, err = h.Do(t.Context(), release)
	requireRefusal(t, registry.NotFound, err)
}

func TestACopyGetsNothingAndNorDoesItsOriginal(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a := h.edge(t, "fra-1", events.ModeDeny)
	a.renews()
	lost := *a
	a.renews()
	*a = lost
	a.renews() // the answer before was lost: it shows the same ticket again
	copied := *a
	a.renews()
	a.renews()
	_, err := copied.ask()
	requireRefusal(t, registry.Unavailable, err) // it might be a renewal that was long on its way
	h.clock.Advance(15 * time.Second)
	_, err = copied.ask()
	requireRefusal(t, registry.Stranger, err)
	hear[registry.InstanceTorn](t, h)
	_, err = a.ask()
	requireRefusal(t, registry.Stranger, err)
	require.Contains(t, h.members(t)["fra-1"].Alarms, "copied")
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	a.acks()
	require.Equal(t, "pending", h.receipt(t, made.Seq).State, "what one of them has, the other may not")
}

func TestGoodbyeEndsAMembership(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a := h.edge(t, "fra-1", events.ModeServe)
	a.renews()
	requireRefusal(t, registry.Forbidden, h.Goodbye(t.Context(), "fra-1", head.Goodbye{Instance: a.as, Ticket: head.Ticket{9}}))
	requireRefusal(t, registry.Forbidden, h.Goodbye(t.Context(), "ams-1", head.Goodbye{Instance: a.as, Ticket: a.ticket}))
	require.NoError(t, h.Goodbye(t.Context(), "fra-1", head.Goodbye{Instance: a.as, Ticket: a.ticket}))
	require.NoError(t, h.Goodbye(t.Context(), "fra-1", head.Goodbye{Instance: a.as, Ticket: a.ticket}), "sent twice")
	require.Empty(t, h.members(t))
}

func TestAHeadThatTheLogLostHaltsTheRegistry(t *testing.T) {
	w := newWorld()
	h := startHub(t, w, t.TempDir())
	a := h.edge(t, "fra-1", events.ModeDeny)
	g := a.renews()
	g.Seq += 10
	a.newest = g.Sign(eventlogtest.SigningKey)
	_, err := a.ask()
	require.Error(t, err)
	require.ErrorIs(t, <-h.ended, events.ErrFork)

	forged := g
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	h = startHub(t, w, t.TempDir())
	a.hub, a.newest = h, forged.Sign(key)
	_, err = a.ask()
	require.NoError(t, err, "what another key signed says nothing")
	g.Incarnation = events.Incarnation{7}
	a.newest = g.Sign(eventlogtest.SigningKey)
	_, err = a.ask()
	require.NoError(t, err, "nor does what was signed of a life of the log before this one")
}

func TestARegistryRemembersWhatItSigned(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, newWorld(), dir)
	h.edge(t, "fra-1", events.ModeDeny).renews()
	h.stop()
	other := newWorld() // the log was lost, and somebody began another
	h = openHub(t, other, t.TempDir())
	heads, err := registry.OpenHeadFile(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, heads.Close()) })
	require.NoError(t, heads.Keep(registry.SignedHead{Head: head.Head{Incarnation: events.Incarnation{1}, Seq: 2}, StreamSeq: 2}))
	h.opts.Heads = heads
	h.Service = registry.NewService(h.hooks, h.catalog, h.office, h.opts)
	require.ErrorIs(t, h.Run(t.Context()), events.ErrFork)
}

func TestOnlyTheLogsOwnKeySigns(t *testing.T) {
	h := openHub(t, newWorld(), t.TempDir())
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	h.opts.SigningKey = key
	h.Service = registry.NewService(h.hooks, h.catalog, h.office, h.opts)
	require.ErrorContains(t, h.Run(t.Context()), "--signing-key")
}

func TestAnInstanceThatIsAheadIsWaitedFor(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a := h.edge(t, "fra-1", events.ModeDeny)
	a.renews()
	a.at.Seq += 5 // has applied what is not in the log
	_, err := a.ask()
	requireRefusal(t, registry.Unavailable, err)
	hear[registry.VerifierAhead](t, h)
}

func TestAShorterLeaseCountsOnceTheLongerOneIsOver(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	a := h.edge(t, "fra-1", events.ModeDeny)
	a.renews()
	lease := func(length string) error {
		_, err := h.Do(t.Context(), registry.Command{Actor: "alice", Verb: registry.FleetLease, Request: registry.Request{Lease: length}})
		return err
	}
	requireRefusal(t, registry.Invalid, lease("1s"))
	requireRefusal(t, registry.Invalid, lease("25h"))
	requireRefusal(t, registry.Invalid, lease("soon"))
	require.NoError(t, lease("10s"))
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	h.clock.Advance(time.Minute)
	require.Equal(t, "pending", h.receipt(t, made.Seq).State, "a grant of ten minutes may be in use")
	require.Equal(t, 10*time.Second, a.renews().Lease)
	h.clock.Advance(10 * time.Minute)
	second := h.must(t, registry.KeyDelete, registry.Request{Key: "demo-key"})
	h.clock.Advance(12 * time.Second)
	require.Equal(t, "fenced", h.receipt(t, second.Seq).State)
}

func TestAStandbyGrantsNothing(t *testing.T) {
	h := openHub(t, newWorld(), t.TempDir())
	_, err := h.edge(t, "fra-1", events.ModeDeny).ask()
	requireRefusal(t, registry.Unavailable, err)
	h.Acknowledge("fra-1", head.Ack{})
	requireRefusal(t, registry.Unavailable, h.Goodbye(t.Context(), "fra-1", head.Goodbye{}))
}

func TestJoinsAreHeldToTheRules(t *testing.T) {
	h := startHub(t, newWorld(), t.TempDir())
	for name, join := range map[string]head.Join{
		"serve without a bound": {Mode: events.ModeServe},
		"serve for ever":        {Mode: events.ModeServe, ServeBound: 1 << 40},
		"deny with a bound":     {Mode: events.ModeDeny, ServeBound: 1},
		"no mode":               {},
	} {
		e := h.edge(t, "fra-1", events.ModeDeny)
		e.join = &join
		_, err := e.ask()
		require.Error(t, err, name)
		requireRefusal(t, registry.Invalid, err)
	}
	for range 16 {
		h.edge(t, "crashes", events.ModeDeny).renews()
	}
	_, err := h.edge(t, "crashes", events.ModeDeny).ask()
	requireRefusal(t, registry.Conflict, err)
	h.edge(t, "another", events.ModeDeny).renews()
}

// forgetful cannot write to its disk while it is full.
type forgetful struct {
	registry.HeadKeeper
	full atomic.Bool
}

func (f *forgetful) Keep(s registry.SignedHead) error {
	if f.full.Load() {
		return syscall.EROFS
	}
	return f.HeadKeeper.Keep(s)
}

// Who cannot grant leases makes way for who can, while the fleet still has some.
func TestARegistryThatCannotKeepHeadsDoesNotLead(t *testing.T) {
	keeper := &forgetful{}
	h := openHub(t, newWorld(), t.TempDir())
	keeper.HeadKeeper = h.opts.Heads
	h.opts.Heads = keeper
	h.Service = registry.NewService(h.hooks, h.catalog, h.office, h.opts)
	h.start(t)
	a := h.edge(t, "fra-1", events.ModeDeny)
	a.renews()
	keeper.full.Store(true)
	h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	_, err := a.ask()
	requireRefusal(t, registry.Unavailable, err)
	require.ErrorIs(t, hear[registry.SteppedDown](t, h).Cause, syscall.EROFS)
	require.ErrorIs(t, hear[registry.SteppedDown](t, h).Cause, syscall.EROFS, "nor does it open a term that it cannot grant leases in")
	keeper.full.Store(false)
	hear[registry.TermOpened](t, h)
	a.renews()
}

// One server's newest block was damaged, and the registry was killed with the server, so that its catalog is no witness: what
// callers were told is missed all the same.
func TestALogThatLostWhatWasAnsweredIsNotLed(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := startHub(t, w, dir)
	made := h.must(t, registry.KeyCreate, registry.Request{Name: "demo-key"})
	answered, has := h.opts.Heads.Kept()
	require.True(t, has)
	require.Equal(t, h.catalog.Position().Chain, answered.Chain, "noted, though nobody was granted anything")
	require.Equal(t, made.Seq, answered.Seq)
	h.stop()
	startHub(t, w, dir).stop()

	answered.Seq, answered.StreamSeq = answered.Seq+9, answered.StreamSeq+1
	heads, err := registry.OpenHeadFile(dir)
	require.NoError(t, err)
	require.NoError(t, heads.Note(answered))
	require.NoError(t, heads.Close())
	h = openHub(t, w, dir)
	require.ErrorIs(t, h.Run(t.Context()), events.ErrFork)
}

// The log is signed with one key after another, and never with none.
func TestTheLogsSigningKeys(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	h := startHub(t, w, dir)
	public, next, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	is, was := events.PublicKey(public).String(), events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:]).String()
	change := func(h *hub, verb registry.Verb, key string) error {
		_, err := h.Do(t.Context(), registry.Command{Actor: "alice", Verb: verb, Request: registry.Request{SigningKey: key}})
		return err
	}
	requireRefusal(t, registry.Invalid, change(h, registry.FleetAddSigningKey, "6f2c"))
	requireRefusal(t, registry.NotFound, change(h, registry.FleetRetireSigningKey, is))
	requireRefusal(t, registry.Conflict, change(h, registry.FleetRetireSigningKey, was))
	require.NoError(t, change(h, registry.FleetAddSigningKey, is))
	before := h.catalog.Position().Seq
	require.NoError(t, change(h, registry.FleetAddSigningKey, is))
	require.Equal(t, before, h.catalog.Position().Seq, "it is there already")
	requireRefusal(t, registry.Conflict, change(h, registry.FleetRetireSigningKey, was))
	h.stop()

	h = startHub(t, w, dir, func(o *registry.Options, _ *catalog.Options) { o.SigningKey = next })
	e := h.edge(t, "fra-1", events.ModeDeny)
	signed, err := h.Renew(t.Context(), e.name, head.Renewal{Ack: head.Ack{Instance: e.as}, Join: e.join, Schema: 1})
	require.NoError(t, err)
	_, err = head.Open(signed, events.PublicKey(public))
	require.NoError(t, err)
	require.NoError(t, change(h, registry.FleetRetireSigningKey, was))
	requireRefusal(t, registry.Conflict, change(h, registry.FleetRetireSigningKey, is))
	h.stop()
	h = openHub(t, w, dir)
	require.ErrorContains(t, h.Run(t.Context()), "was retired")
}
