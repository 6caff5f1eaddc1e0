// Package snapshots makes snapshots of the log for verifiers: it keeps an index as theirs is, and puts a snapshot of it into the
// object store whenever the log has grown enough, while its registry is the active one (rule SNAPSHOT of docs/protocol.md).
//
// It promises that two snapshots are there while a third is made, so that a verifier that is fetching one can finish. It leaves
// what a snapshot is to projections/snapshot, and when to install one to verifiers.
package snapshots

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/keyindex"
	"github.com/keyfleet/keyfleet/projections/snapshot"
)

// Options of a Keeper. Those without a default are needed.
type Options struct {
	Source  projections.Source
	Index   *keyindex.Index
	Objects snapshot.Objects
	Key     ed25519.PrivateKey // of the log
	Active  func() bool        // reports whether this registry is the one that makes them
	Every   events.Seq         // events between two snapshots at least; default 100,000
	Look    time.Duration      // how often it is looked whether one is due; default 10 s
	Log     *slog.Logger
}

// Keeper makes snapshots.
type Keeper struct {
	opts Options
	due  events.Seq // the next one is due at this Seq; 0: not known yet

	surplus bool // there may be more than are kept
}

// The newest so many snapshots are kept.
const kept = 2

// New makes a Keeper. It does nothing before Run.
func New(opts Options) *Keeper {
	if opts.Every == 0 {
		opts.Every = 100_000
	}
	if opts.Look == 0 {
		opts.Look = 10 * time.Second
	}
	return &Keeper{opts: opts}
}

// Run follows the log and makes snapshots until ctx ends, or the log turns out to be another.
func (k *Keeper) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followed := make(chan error, 1)
	go func() {
		followed <- projections.Follow(ctx, k.opts.Source, k.opts.Index, projections.FollowObserver{
			Applied: func(events.Position) {},
			Stalled: func(err error) {
				k.opts.Log.Warn("the index for snapshots cannot follow the log for now", "error", err)
			},
		})
	}()
	look := time.NewTicker(k.opts.Look)
	defer look.Stop()
	for {
		select {
		case err := <-followed:
			return err
		case <-look.C:
		}
		if err := k.make(ctx); err != nil && ctx.Err() == nil {
			k.opts.Log.Warn("no snapshot could be made, or older ones not removed; the next attempt is under way soon", "error", err)
		}
	}
}

// make makes a snapshot if one is due.
func (k *Keeper) make(ctx context.Context) error {
	if !k.opts.Active() {
		k.due = 0 // whoever is active meanwhile makes others
		return nil
	}
	public := events.PublicKey(k.opts.Key[ed25519.SeedSize:])
	if k.due == 0 {
		newest, err := snapshot.Newest(ctx, k.opts.Objects, events.Position{}, public)
		if err != nil && !errors.Is(err, snapshot.ErrNone) {
			return err
		}
		k.due = k.after(&newest)
	}
	if k.opts.Index.Position().Seq < k.due {
		return k.prune(ctx, public)
	}
	began := time.Now()
	made, err := snapshot.Build(ctx, k.opts.Index, k.opts.Objects, k.opts.Key)
	if err != nil {
		return err
	}
	k.due = k.after(&made)
	k.opts.Log.Info("snapshot made", "seq", made.Position.Seq, "tables", len(made.Tables), "bytes", made.Size(), "took", time.Since(began))
	k.surplus = true
	return k.prune(ctx, public)
}

// prune removes what is older than the newest snapshots, once for each that was made.
func (k *Keeper) prune(ctx context.Context, public events.PublicKey) error {
	if !k.surplus {
		return nil
	}
	if err := snapshot.Prune(ctx, k.opts.Objects, kept, public); err != nil {
		return fmt.Errorf("remove older snapshots: %w", err)
	}
	k.surplus = false
	return nil
}

// after is the Seq at which the next is due. A large one is worth more events: each event saves a verifier some 10 µs, and a
// snapshot costs every byte of the index.
func (k *Keeper) after(m *snapshot.Manifest) events.Seq {
	const bytesPerEvent = 1000
	return m.Position.Seq + max(k.opts.Every, events.Seq(m.Size()/bytesPerEvent))
}
