package verifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/keyindex"
	"github.com/keyfleet/keyfleet/projections/snapshot"
)

// Options of a verifier. Of those that Run does not need, the zero value is fit for production.
type Options struct {
	Source projections.Source
	Uplink Uplink

	LogKeys []events.PublicKey // that sign grants for this log, and those that the log names once one of these vouched for it. Needed to Run; at most MaxLogKeys
	Name    string             // of this verifier, stable, as its credentials have it. Needed to Run
	PoP     string             // the site where it runs, for people
	Version string             // of the binary, for people
	RunDir  string             // on tmpfs: a restart goes on as the same instance by it; default: no restart does

	Snapshots snapshot.Source // to begin from instead of the log's beginning; default: none
	Reports   Reports         // of how often keys were let in; default: nobody counts

	ServeFor      time.Duration // how long past its lease it answers, marked stale; default 0: not at all
	RenewEvery    time.Duration // between renewals, give or take a tenth; default 1 s
	ReportEvery   time.Duration // between reports, at most; default 25 s
	MinSeqWait    time.Duration // how long a check waits for its MinSeq at most; default 1 s
	MinSeqWaiters int           // how many checks may wait at a time; default 1024
	CacheBytes    int64         // of the index; default 128 MiB
	ScrubEvery    time.Duration // between two readings of the whole index for damage; default 1 h
	ScrubPace     int           // of them, in bytes a second; default 16 MiB

	Clock   clock.Clock           // default the system's
	Listen  func(Event)           // hears what happens, from any goroutine; must not block
	Log     *slog.Logger          // default: discarded
	Metrics prometheus.Registerer // default: none

	index keyindex.Options // of tests, for disks that fail
}

func (o *Options) ensureDefaults() {
	if o.RenewEvery == 0 {
		o.RenewEvery = time.Second
	}
	if o.ReportEvery == 0 {
		o.ReportEvery = 25 * time.Second
	}
	if o.MinSeqWait == 0 {
		o.MinSeqWait = time.Second
	}
	if o.MinSeqWaiters == 0 {
		o.MinSeqWaiters = 1024
	}
	if o.ScrubEvery == 0 {
		o.ScrubEvery = time.Hour
	}
	if o.ScrubPace == 0 {
		o.ScrubPace = 16 << 20
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Verifier is safe for concurrent use. It answers nothing but 503 until Run has caught up.
type Verifier struct {
	opts      Options
	dir       string
	idx       *keyindex.Index
	listeners []func(Event)
	metrics   *metrics

	gate  atomic.Pointer[gate]
	rise  atomic.Pointer[chan struct{}] // closed at the next Apply
	keys  atomic.Pointer[trust]         // whose grants and snapshots are believed
	tally tally
	uses  *uses // nil: nobody counts

	backlog backlog // of Run alone

	mu      sync.Mutex // of everything below; checks do not take it
	hold    *hold
	told    State
	session *session
	last    *record       // of the instance before, if it has to be taken leave of
	newest  head.Grant    // with the highest head seen,
	proof   []byte        // signed
	ackedAt time.Duration // when the last acknowledgement went out, and how far apart they may be
	every   time.Duration
	damage  error         // of the index; nil once it was begun anew
	restart func()        // has the log read again from where the index is then
	reading bool          // the log is read now, and not a snapshot installed
	heardAt time.Duration // when it last brought something, or was begun to be read

	indexing sync.Mutex // of the index's writers; before mu

	due    chan struct{} // a signal that a lease is to be asked for at once
	unsaid chan struct{} // a signal that something was applied and not acknowledged
}

// Open opens the index in dir/keyindex, or begins an empty one. Nothing is answered before Run.
func Open(dir string, opts Options) (*Verifier, error) {
	opts.ensureDefaults()
	v := &Verifier{opts: opts, dir: dir, told: Starting, due: make(chan struct{}, 1), unsaid: make(chan struct{}, 1)}
	v.listeners = append(v.listeners, logTo(opts.Log), v.tally.hear)
	if opts.Listen != nil {
		v.listeners = append(v.listeners, opts.Listen)
	}
	if opts.Reports != nil {
		v.uses, v.backlog.run = newUses(), usage.Run(events.NewID())
	}
	v.hold = newHold(events.Position{}, head.Head{}, events.InstanceID{})
	v.gate.Store(&gate{})
	v.restart = func() {}
	rise := make(chan struct{})
	v.rise.Store(&rise)
	var err error
	as := identity{Name: opts.Name, PoP: opts.PoP, Serve: opts.ServeFor, Version: opts.Version, Data: dir}
	if v.session, v.last, err = openSession(opts.RunDir, as); err != nil {
		return nil, err
	}
	v.keys.Store(v.session.rec.Trust.goOn(opts.LogKeys))
	index := opts.index
	index.CacheBytes, index.Log, index.OnCorruption = opts.CacheBytes, opts.Log, v.diverge
	v.idx, err = keyindex.Open(filepath.Join(dir, "keyindex"), index)
	if err != nil {
		return nil, errors.Join(err, v.session.close())
	}
	v.change(v.goOn)
	if opts.Metrics != nil {
		v.metrics = newMetrics(v)
		if err := opts.Metrics.Register(v.metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("register the verifier's metrics: %w", err), v.idx.Close(), v.session.close())
		}
	}
	return v, nil
}

// goOn begins where the index and the session are.
func (v *Verifier) goOn(h *hold, now time.Duration) {
	position, rec := v.idx.Position(), &v.session.rec
	if rec.Member && position.Seq > 0 && position.Incarnation != rec.Incarnation {
		_ = v.session.beginAnew() // the next attempt to keep anything tells of a directory that cannot be written
	}
	quarantined := h.gate.quarantined
	h.beginBehind(position, rec.Floor, rec.Instance)
	if quarantined != nil {
		h.quarantine(quarantined)
	}
	if len(rec.Grant) == 0 {
		return
	}
	if g, err := head.Open(rec.Grant, v.keys.Load().Keys...); err == nil {
		v.newest, v.proof = g, rec.Grant
		_ = h.resume(g, rec.Grant, rec.Asked, now) // one that is over is no use, and one that contradicts the index shows in the gate
	}
}

// Run follows the log and renews the lease until ctx ends. Then nothing is answered any more, the registry is told that this
// instance is no more, and Run returns nil. Whatever goes wrong closes the gate sooner or later; it does not end Run.
func (v *Verifier) Run(ctx context.Context) error {
	if v.opts.Source == nil || v.opts.Uplink == nil || v.opts.Name == "" || len(v.opts.LogKeys) == 0 {
		return errors.New("a verifier cannot run without a Source, an Uplink, a Name and the log's keys")
	}
	if len(v.opts.LogKeys) > MaxLogKeys {
		return fmt.Errorf("a verifier is given at most %d of the log's keys, not %d", MaxLogKeys, len(v.opts.LogKeys))
	}
	var all sync.WaitGroup
	all.Go(func() { v.follow(ctx) })
	all.Go(func() { v.renew(ctx) })
	all.Go(func() { v.acknowledge(ctx) })
	all.Go(func() { v.scrub(ctx) })
	if v.uses != nil {
		all.Go(func() { v.report(ctx) })
	}
	all.Wait()
	v.shut()
	v.sayGoodbye()
	if v.uses != nil {
		v.reportTheRest()
	}
	return nil
}

// shut answers nothing any more.
func (v *Verifier) shut() {
	v.change(func(h *hold, _ time.Duration) {
		h.quarantine(keyindex.ErrClosed)
		v.told = Quarantined // no news to anybody
	})
}

// Close makes what was applied durable. Run must have returned; checks are answered 503 from then on.
func (v *Verifier) Close() error {
	v.shut()
	if v.metrics != nil {
		v.opts.Metrics.Unregister(v.metrics)
	}
	return errors.Join(v.idx.Close(), v.session.close())
}

func (v *Verifier) follow(ctx context.Context) {
	for {
		reading, restart := context.WithCancel(ctx)
		v.mu.Lock()
		v.restart = restart
		v.mu.Unlock()
		v.installSnapshot(reading, false)
		v.beginReading(true)
		err := projections.Follow(reading, v.opts.Source, applier{v}, projections.FollowObserver{
			Applied: func(events.Position) {},
			Stalled: func(err error) {
				v.change(func(h *hold, now time.Duration) { h.stall(err, now) })
				v.tell(ApplyStalled{Err: err})
				if errors.Is(err, events.ErrGap) { // a copy of the log need not reach back to where the index is
					v.beginReading(false)
					v.installSnapshot(reading, true)
					v.beginReading(true)
				}
			},
		})
		v.beginReading(false)
		again := reading.Err() != nil
		restart()
		switch {
		case ctx.Err() != nil:
			return
		case !again: // another log than before: Follow ends for nothing else, and no new index mends it
			v.change(func(h *hold, _ time.Duration) {
				v.damage = nil
				h.quarantine(err)
			})
			return
		}
	}
}

func (v *Verifier) beginReading(now bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reading, v.heardAt = now, v.opts.Clock.Elapsed()
}

// applier is the index as Follow sees it: whatever is applied is shown to the hold, commit by commit.
type applier struct{ v *Verifier }

func (a applier) Position() events.Position { return a.v.idx.Position() }

func (a applier) Apply(entries []events.Entry) error {
	a.v.indexing.Lock()
	defer a.v.indexing.Unlock()
	if why := a.v.gate.Load().quarantined; why != nil {
		return why
	}
	keys := a.v.idx.Charter().SigningKeys
	if err := a.v.idx.Apply(entries); err != nil {
		return err
	}
	if !slices.Equal(keys, a.v.idx.Charter().SigningKeys) {
		a.v.renewNow() // only a head behind the change vouches for it
	}
	var err error
	prompt := false
	a.v.change(func(h *hold, now time.Duration) {
		a.v.heardAt = now
		for _, e := range entries {
			err = errors.Join(err, h.apply(e))
			a.v.tally.applied.Add(uint64(len(e.Commit.Events())))
			prompt = prompt || e.Commit.Prompt
		}
	})
	a.v.applied(prompt)
	return err
}

// quarantine is for longer than this run: a restart mends nothing, and must not answer by what was granted before.
func (v *Verifier) quarantine(why error) {
	var err error
	v.change(func(h *hold, _ time.Duration) {
		h.quarantine(why)
		err = v.session.disown()
	})
	if err != nil {
		v.tell(RenewalFailed{Err: err, InARow: 1})
	}
}

// change does something to the hold, shows checks the gate that comes of it, and tells of a new state.
func (v *Verifier) change(do func(h *hold, now time.Duration)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.opts.Clock.Elapsed()
	do(v.hold, now)
	g := v.hold.gate
	before := v.gate.Swap(&g)
	if g.applied != before.applied {
		rise := make(chan struct{})
		close(*v.rise.Swap(&rise))
	}
	v.turn(&g, g.state(now))
}

// turn tells of a state that differs from the one told last.
func (v *Verifier) turn(g *gate, state State) {
	if state == v.told {
		return
	}
	was := v.told
	v.told = state
	switch state {
	case Serving:
		v.tell(CaughtUp{Was: was, Seq: g.applied})
		v.renewNow() // the grant in use may be old by now
	case Lapsed:
		v.tell(LeaseLapsed{Seq: g.applied})
	case Quarantined:
		v.tell(IndexQuarantined{Err: g.quarantined})
	case Starting, Stalled:
	}
}

func (v *Verifier) renewNow() {
	select {
	case v.due <- struct{}{}:
	default:
	}
}

func (v *Verifier) tell(e Event) {
	for _, hear := range v.listeners {
		hear(e)
	}
}
