package verifier

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/snapshot"
)

// worthInstalling is by how many events a snapshot has to be ahead of the index: fewer are replayed as quickly.
const worthInstalling events.Seq = 20_000

// installSnapshot puts a snapshot in the place of an index that is far behind, or of any that needs one, as the log cannot be followed
// from where it is. Nobody applies anything meanwhile. Whatever comes of it, the log is followed from where the index is then, and the
// gate is the same.
func (v *Verifier) installSnapshot(ctx context.Context, needed bool) {
	if v.opts.Snapshots == nil || v.gate.Load().quarantined != nil {
		return
	}
	have := v.idx.Position()
	if !needed && v.isNear(have.Seq) {
		return
	}
	newest, err := snapshot.Newest(ctx, v.opts.Snapshots, have, v.keys.Load().Keys...)
	switch {
	case !needed && (errors.Is(err, snapshot.ErrNone) || err == nil && newest.Position.Seq-have.Seq < worthInstalling):
		return
	case err != nil:
		v.tell(SnapshotFailed{Err: err})
		return
	}
	v.indexing.Lock()
	defer v.indexing.Unlock()
	began := v.opts.Clock.Elapsed()
	installed, err := snapshot.Install(ctx, v.idx, v.opts.Snapshots, snapshot.Options{
		Pinned: v.keys.Load().Keys, Staging: filepath.Join(v.dir, "snapshot"), Progress: v.tellProgress(),
	})
	if err != nil {
		v.tell(SnapshotFailed{Err: err})
		return
	}
	v.change(v.goOn)
	v.tell(SnapshotInstalled{Seq: installed.Position.Seq, Bytes: installed.Size(), Took: v.opts.Clock.Elapsed() - began})
}

// isNear reports whether a lease opens the gate at the Seq, or not far behind it. A verifier that restarts in a PoP that is cut off has
// such a lease, and nobody to ask for snapshots.
func (v *Verifier) isNear(seq events.Seq) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := v.hold
	return h.using != nil && h.using.head.Seq < seq+worthInstalling || len(h.pending) > 0 && h.pending[0].head.Seq < seq+worthInstalling
}

// tellProgress tells how far a fetch has come, once a second.
func (v *Verifier) tellProgress() func(done, total int64) {
	var last time.Duration
	return func(done, total int64) {
		if now := v.opts.Clock.Elapsed(); now-last >= time.Second || done == total {
			last = now
			v.tell(SnapshotFetching{Done: done, Total: total})
		}
	}
}
