package verifier_test

import (
	"context"
	"slices"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier"
)

// settle heals everything, and waits until it is as if nothing had been.
func (w *world) settle() {
	for _, h := range w.hubs {
		h.clock.off.Store(0)
		h.line.heal()
	}
	for _, e := range w.edges {
		e.clock.off.Store(0)
		e.source.heal()
		e.uplink.heal()
	}
	time.Sleep(90 * time.Second)
	synctest.Wait()
	w.look()
	for _, e := range w.edges {
		if s := e.Status(); s.State != verifier.Serving || s.Position.Seq != w.truth.at.Seq {
			w.breaks("with everything healed, %s is %s at Seq %d of %d: %s", e.name, s.State, s.Position.Seq, w.truth.at.Seq, s.Why)
		}
	}
	w.mu.Lock()
	waiting := w.waiting
	w.mu.Unlock()
	if waiting > 0 {
		w.breaks("with everything healed, %d commands have no answer", waiting)
	}
	w.compareAnswers()
	w.compareCatalogs()
	w.compareReplay()
}

// compareAnswers: what was acknowledged is in the log, and a command that took effect is not answered with anything later. One that
// changed nothing leaves no trace, and may take effect when it is sent again.
func (w *world) compareAnswers() {
	for _, s := range w.sent {
		took, has := w.truth.effects["demo/sim/"+s.ask.CommandID]
		for _, seq := range s.answers {
			always := s.verb == registry.KeyCreate || s.verb == registry.KeyRotate
			if seq > w.truth.at.Seq || has && seq > took || always && !has {
				w.breaks("%s %s was answered with Seq %d; in the log it is at %d of %d", s.verb, s.ask.CommandID, seq, took, w.truth.at.Seq)
			}
		}
	}
}

// compareCatalogs holds what the active registry says there is against the log.
func (w *world) compareCatalogs() {
	for _, h := range w.hubs {
		if _, active := h.svc.Active(); !active {
			continue
		}
		reply, err := h.svc.Do(w.Context(), registry.Command{Project: "demo", Actor: "sim", Verb: registry.KeyList, Request: registry.Request{Limit: 1000}})
		w.must(err)
		page, is := reply.(*registry.KeyPage)
		if !is {
			return
		}
		alive := 0
		for id, b := range w.truth.keys {
			l := b.at(w.truth.at.Seq)
			if !l.alive {
				continue
			}
			alive++
			if !slices.ContainsFunc(page.Results, func(v registry.KeyView) bool {
				return v.ID == id.String() && (v.Status == registry.Disabled) == l.disabled
			}) {
				w.breaks("the catalog of %s does not have key %s as the log has it", h.name, id)
			}
		}
		if alive != page.Count {
			w.breaks("the catalog of %s has %d keys, the log %d", h.name, page.Count, alive)
		}
	}
}

// compareReplay folds the log into an index that saw no faults.
func (w *world) compareReplay() {
	fresh, err := keyindex.Open("fresh", keyindex.Options{FS: vfs.NewMem(), FrontBytes: -1, CacheBytes: 1 << 20})
	w.must(err)
	over, cancel := context.WithCancel(w.Context())
	_ = w.log.Follow(over, events.Position{}, func(entries []events.Entry) error {
		w.must(fresh.Apply(entries))
		if fresh.Position().Seq == w.truth.at.Seq {
			cancel()
		}
		return nil
	})
	at, digest := fresh.Digest()
	if w.digests[at.Seq] != digest {
		w.breaks("an index that is folded anew is not what the verifiers have at Seq %d", at.Seq)
	}
	w.must(fresh.Close())
}
