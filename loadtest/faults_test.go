package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
)

var beyondTheFence = projections.Fence(tortureLease) + time.Second

// fail lets things go wrong, one after the other and some at a time.
func (w *world) fail(ctx context.Context) {
	kinds := []struct {
		name string
		do   func()
	}{
		{"verifier frozen", func() { w.anySite().net.freeze(beyondTheFence + w.upTo(2*time.Second)) }},
		{"verifier cut off and back", func() { w.anySite().net.cut() }},
		{"verifier deaf, then cut", func() { w.deafen(w.anySite().net) }},
		{"verifier slow", func() { w.slow(w.anySite().net) }},
		{"verifier restarted", func() { w.restart(w.anySite()) }},
		{"verifier killed", func() { w.kill(w.anySite()) }},
		{"verifier killed, index lost", func() { s := w.anySite(); w.kill(s, filepath.Join(s.dir, "keyindex")) }},
		{"registry cut off and back", func() { w.anyHub().net.cut() }},
		{"registry frozen", func() { w.anyHub().net.freeze(w.upTo(5 * time.Second)) }},
		{"registry deaf, then cut", func() { w.deafen(w.anyHub().net) }},
		{"registry restarted", func() { h := w.anyHub(); h.stop(); h.start(w.fleet) }},
	}
	w.freezeOne(ctx)
	for ctx.Err() == nil {
		kind := kinds[w.random.IntN(len(kinds))]
		kind.do()
		w.faults[kind.name]++
		wait(ctx, w.upTo(500*time.Millisecond))
	}
}

// freezeOne, in quiet, makes sure that no run is without revocations that are fenced off from a verifier which would still
// accept: in the storm the clocks of a fence begin anew with every term.
func (w *world) freezeOne(ctx context.Context) {
	wait(ctx, registry.SelfLease)
	w.anySite().net.freeze(beyondTheFence)
	wait(ctx, beyondTheFence)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.random.Int64N(int64(d))) }

func (w *world) anySite() *site { return w.sites[w.random.IntN(len(w.sites))] }
func (w *world) anyHub() *hub   { return w.hubs[w.random.IntN(len(w.hubs))] }

// deafen lets requests pass and no answer.
func (w *world) deafen(p *proxy) {
	d := w.upTo(4 * time.Second)
	p.hold(answers, d)
	time.AfterFunc(d, p.cut)
}

func (w *world) slow(p *proxy) {
	p.delay.Store(int64(w.upTo(50 * time.Millisecond)))
	time.AfterFunc(w.upTo(2*time.Second), func() { p.delay.Store(0) })
}

// restart stops a verifier cleanly. It begins as another instance.
func (w *world) restart(s *site) {
	s.now.Load().stop()
	s.start(w.fleet)
}

// kill ends a verifier without a goodbye. It goes on as the same instance, even where its index is gone.
func (w *world) kill(s *site, lost ...string) {
	e := s.now.Load()
	e.line.hold()
	e.stop()
	for _, path := range lost {
		require.NoError(w, os.RemoveAll(path))
	}
	s.start(w.fleet)
}
