package verifier

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

// Options of a verifier. Source and Uplink are needed to Run; of the rest the zero value is fit for
// production.
type Options struct {
	Source projections.Source
	Uplink Uplink

	ServeFor      time.Duration // how long past its lease it answers, marked stale; default 0: not at all
	RenewEvery    time.Duration // between renewals, give or take a tenth; default 1 s
	MinSeqWait    time.Duration // how long a check waits for its MinSeq at most; default 1 s
	MinSeqWaiters int           // how many checks may wait at a time; default 1024
	CacheBytes    int64         // of the index; default 256 MiB

	Clock   clock.Clock           // default the system's
	Listen  func(Event)           // hears what happens, from any goroutine; must not block
	Log     *slog.Logger          // default: discarded
	Metrics prometheus.Registerer // default: none
}

func (o *Options) ensureDefaults() {
	if o.RenewEvery == 0 {
		o.RenewEvery = time.Second
	}
	if o.MinSeqWait == 0 {
		o.MinSeqWait = time.Second
	}
	if o.MinSeqWaiters == 0 {
		o.MinSeqWaiters = 1024
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// renewTimeout ends a renewal that gets no answer, so that the next can be tried well within a lease.
const renewTimeout = 10 * time.Second

// Verifier is safe for concurrent use. It answers nothing but 503 until Run has caught up.
type Verifier struct {
	opts      Options
	idx       *keyindex.Index
	listeners []func(Event)
	metrics   *metrics

	gate  atomic.Pointer[gate]
	rise  atomic.Pointer[chan struct{}] // closed at the next Apply
	tally tally

	mu   sync.Mutex // of everything below; checks do not take it
	hold *hold
	told State

	opened chan struct{} // a signal that the gate has opened
}

// Open opens the index in dir/keyindex, or begins an empty one. Nothing is answered before Run.
func Open(dir string, opts Options) (*Verifier, error) {
	opts.ensureDefaults()
	v := &Verifier{opts: opts, told: Starting, opened: make(chan struct{}, 1)}
	v.listeners = append(v.listeners, logTo(opts.Log), v.tally.hear)
	if opts.Listen != nil {
		v.listeners = append(v.listeners, opts.Listen)
	}
	v.hold = newHold(events.Position{}, 0, opts.ServeFor)
	v.gate.Store(&gate{})
	rise := make(chan struct{})
	v.rise.Store(&rise)
	var err error
	v.idx, err = keyindex.Open(filepath.Join(dir, "keyindex"), keyindex.Options{
		CacheBytes: opts.CacheBytes, Log: opts.Log, OnCorruption: v.quarantine,
	})
	if err != nil {
		return nil, err
	}
	v.change(func(h *hold, _ time.Duration) {
		position := v.idx.Position()
		fresh := newHold(position, position.Seq, opts.ServeFor)
		fresh.gate.quarantined = h.gate.quarantined
		*h = *fresh
	})
	if opts.Metrics != nil {
		v.metrics = newMetrics(v)
		if err := opts.Metrics.Register(v.metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("register the verifier's metrics: %w", err), v.idx.Close())
		}
	}
	return v, nil
}

// Run follows the log and renews the lease until ctx ends, and then returns nil. Whatever goes wrong
// closes the gate sooner or later; it does not end Run.
func (v *Verifier) Run(ctx context.Context) error {
	if v.opts.Source == nil || v.opts.Uplink == nil {
		return errors.New("a verifier cannot run without a Source and an Uplink")
	}
	var both sync.WaitGroup
	both.Go(func() { v.follow(ctx) })
	both.Go(func() { v.renew(ctx) })
	both.Wait()
	return nil
}

// Close makes what was applied durable. Run must have returned; checks are answered 503 from then on.
func (v *Verifier) Close() error {
	v.change(func(h *hold, _ time.Duration) {
		h.quarantine(keyindex.ErrClosed)
		v.told = Quarantined // no news to anybody
	})
	if v.metrics != nil {
		v.opts.Metrics.Unregister(v.metrics)
	}
	return v.idx.Close()
}

func (v *Verifier) follow(ctx context.Context) {
	err := projections.Follow(ctx, v.opts.Source, applier{v}, projections.FollowObserver{
		Applied: func(events.Position) {},
		Stalled: func(err error) {
			v.change(func(h *hold, now time.Duration) { h.stall(err, now) })
			v.tell(ApplyStalled{Err: err})
		},
	})
	if ctx.Err() == nil {
		v.quarantine(err) // another log than before: Follow ends for nothing else
	}
}

// applier is the index as Follow sees it: whatever is applied is shown to the hold, commit by commit.
type applier struct{ v *Verifier }

func (a applier) Position() events.Position { return a.v.idx.Position() }

func (a applier) Apply(entries []events.Entry) error {
	if why := a.v.gate.Load().quarantined; why != nil {
		return why
	}
	if err := a.v.idx.Apply(entries); err != nil {
		return err
	}
	var err error
	a.v.change(func(h *hold, _ time.Duration) {
		for _, e := range entries {
			err = errors.Join(err, h.apply(e))
			a.v.tally.applied.Add(uint64(len(e.Commit.Events())))
		}
	})
	return err
}

// renew asks for a lease at once, whenever the gate has opened, and else at every interval.
func (v *Verifier) renew(ctx context.Context) {
	for misses := 0; ctx.Err() == nil; {
		if v.gate.Load().quarantined == nil {
			err := v.renewOnce(ctx)
			if misses++; err == nil {
				misses = 0
			} else if ctx.Err() == nil {
				v.tell(RenewalFailed{Err: err, InARow: misses})
			}
		}
		tenth := v.opts.RenewEvery / 10
		pause := v.opts.RenewEvery - tenth + randv2.N(2*tenth+1) //nolint:gosec // G404: it spreads load, and hides nothing
		select {
		case <-ctx.Done():
		case <-v.opened:
		case <-time.After(pause):
		}
		v.change(func(*hold, time.Duration) {}) // a lease may have lapsed meanwhile
	}
}

func (v *Verifier) renewOnce(ctx context.Context) error {
	ask := Renewal{Applied: v.idx.Position()}
	_, _ = rand.Read(ask.Nonce[:])                                       // never fails: it ends the process instead
	v.change(func(h *hold, now time.Duration) { h.ask(ask.Nonce, now) }) // before it is sent: the lease counts from here
	attempt, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	g, err := v.opts.Uplink.Renew(attempt, ask)
	if err == nil {
		v.change(func(h *hold, now time.Duration) { err = h.grant(g, now) })
	}
	return err
}

func (v *Verifier) quarantine(why error) {
	v.change(func(h *hold, _ time.Duration) { h.quarantine(why) })
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
		select {
		case v.opened <- struct{}{}: // the grant in use may be old by now
		default:
		}
	case Lapsed:
		v.tell(LeaseLapsed{Seq: g.applied})
	case Quarantined:
		v.tell(IndexQuarantined{Err: g.quarantined})
	case Starting, Stalled:
	}
}

func (v *Verifier) tell(e Event) {
	for _, hear := range v.listeners {
		hear(e)
	}
}
