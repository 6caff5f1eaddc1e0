package verifier

import (
	"context"
	"errors"
	"time"

	"github.com/keyfleet/keyfleet/projections/keyindex"
)

// scrub looks for damage from time to time (rule INDEX).
func (v *Verifier) scrub(ctx context.Context) {
	every := time.NewTicker(v.opts.ScrubEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		began := v.opts.Clock.Elapsed()
		err := v.idx.Scrub(ctx, v.opts.ScrubPace)
		switch {
		case errors.Is(err, keyindex.ErrDiverged):
			v.diverge(err)
		case err == nil:
			v.tell(IndexScrubbed{Took: v.opts.Clock.Elapsed() - began})
		}
	}
}

// diverge answers nothing any more from an index that is damaged. The registry is asked for leave to begin a new one: a whole
// fleet that does so at once would not answer at all.
func (v *Verifier) diverge(why error) {
	v.change(func(h *hold, _ time.Duration) {
		if v.damage == nil {
			v.damage = why
		}
		h.quarantine(v.damage)
	})
}

// rebuild begins a new index, as the instance that it is: nothing is answered below what it acknowledged.
func (v *Verifier) rebuild() error {
	v.indexing.Lock()
	defer v.indexing.Unlock()
	v.mu.Lock()
	why, quarantined := v.damage, v.hold.gate.quarantined
	v.mu.Unlock()
	if why == nil || !errors.Is(quarantined, why) {
		return nil // it is closed for something that a new index does not mend
	}
	v.tell(IndexRebuilding{Why: why})
	if err := v.idx.Reset(why); err != nil {
		return err
	}
	v.change(func(h *hold, _ time.Duration) {
		v.damage = nil
		floor := h.highest()
		if kept := v.session.rec.Floor; kept.Seq > floor.Seq {
			floor = kept // in the index, acknowledged, and not shown to the hold any more
		}
		h.beginBehind(v.idx.Position(), floor, h.gate.self)
		v.restart()
	})
	return nil
}
