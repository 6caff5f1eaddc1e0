package keyindex

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/store"
)

var (
	// ErrOutdated: the index has come that far by itself.
	ErrOutdated = errors.New("the index is as new already")
	// ErrTables: the tables hold something else than they are said to.
	ErrTables = errors.New("the tables do not make the index that they are said to make")
)

// Install puts what the tables hold in the place of everything stored, if it comes to the digest and the index is
// not as new as position already. The tables are durable files on the disk of the index; they are left where they are.
//
// Readers go on, and see the old index or the new one. Whoever follows the log into the index has to stop before,
// and to go on from the new Position: what was read for the old one would look like a fork. A crash leaves the old
// index or the new one. An error leaves the old one, or a closed index.
func (idx *Index) Install(ctx context.Context, tables []string, position events.Position, digest events.Digest) error {
	idx.installing.Lock()
	defer idx.installing.Unlock()
	err := idx.hold(ctx, func(ctx context.Context) error {
		if err := idx.precedes(position); err != nil {
			return err
		}
		return idx.build(ctx, tables, position, digest)
	})
	if err != nil {
		return err
	}
	defer idx.shut()()
	if idx.closed {
		return ErrClosed
	}
	if err := idx.precedes(position); err != nil { // it may have gone on meanwhile
		return err
	}
	if err := idx.dir.promise(); err != nil {
		return err
	}
	return idx.reopen()
}

// precedes refuses a position that the index cannot come to, or is past.
func (idx *Index) precedes(p events.Position) error {
	have := idx.Position()
	switch {
	case have.Seq > 0 && p.Incarnation != have.Incarnation:
		return fmt.Errorf("%w: the index is of %s, not of %s", events.ErrIncarnation, have.Incarnation, p.Incarnation)
	case p.Seq <= have.Seq:
		return fmt.Errorf("%w: at Seq %d, against %d", ErrOutdated, have.Seq, p.Seq)
	}
	return nil
}

// build makes a store of its own of the tables, and makes sure of it.
func (idx *Index) build(ctx context.Context, tables []string, position events.Position, digest events.Digest) error {
	path := idx.dir.file(buildingDir)
	if err := idx.dir.fs.RemoveAll(path); err != nil {
		return err
	}
	opts := idx.opts
	opts.CacheBytes = 32 << 20 // everything is read once
	db, err := opts.open(path, func(error) {})
	if err != nil {
		return err
	}
	linked, err := idx.link(tables, path)
	if err == nil {
		err = fill(ctx, db, linked, position, digest)
	}
	err = errors.Join(err, db.Close())
	if isDamage(err) {
		return fmt.Errorf("%w: %w", ErrTables, err)
	}
	return err
}

// link gives the tables second names in a directory, for Pebble takes away those it is given.
func (idx *Index) link(tables []string, dir string) (linked []string, err error) {
	for i, table := range tables {
		linked = append(linked, idx.dir.fs.PathJoin(dir, fmt.Sprintf("table-%d", i)))
		if err := vfs.LinkOrCopy(idx.dir.fs, table, linked[i]); err != nil {
			return nil, err
		}
	}
	return linked, nil
}

func fill(ctx context.Context, db *store.DB, tables []string, position events.Position, digest events.Digest) error {
	if err := db.Ingest(ctx, tables); err != nil {
		return fmt.Errorf("%w: %w", ErrTables, err)
	}
	found, err := digestStored(ctx, db)
	if err != nil {
		return err
	}
	if found != digest {
		return fmt.Errorf("%w: they come to %s, not to %s", ErrTables, found, digest)
	}
	if err := db.Set(positionKey, encodePosition(position, digest), pebble.NoSync); err != nil {
		return err
	}
	v, err := loadView(db)
	if err != nil {
		return err
	}
	if v.charter.Incarnation != position.Incarnation {
		return fmt.Errorf("%w: they are of %s, not of %s", ErrTables, v.charter.Incarnation, position.Incarnation)
	}
	return errors.Join(v.understood(), db.Flush())
}

// digestStored reads everything, on all processors.
func digestStored(ctx context.Context, db *store.DB) (events.Digest, error) {
	spans := make(chan span)
	go func() {
		defer close(spans)
		for _, s := range spread() {
			spans <- s
		}
	}()
	var mu sync.Mutex
	var total recordSum
	var failed error
	var readers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		readers.Go(func() {
			for s := range spans {
				sum, err := sumOfSpan(ctx, db, s, newPace(0))
				mu.Lock()
				total.addAll(&sum)
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	readers.Wait()
	return total.digest(), failed
}

func sumOfSpan(ctx context.Context, r pebble.Reader, s span, pace *pace) (sum recordSum, err error) {
	var record []byte
	err = eachRecord(ctx, r, s, pace, func(key, value []byte) error {
		record = appendRecord(record[:0], key, value)
		sum.add(record)
		return nil
	})
	return sum, err
}

// spread cuts the keys of a store into spans of much the same size: nearly all of them are ids and digests, and random.
func spread() (spans []span) {
	var last span
	for _, space := range []byte{idSpace, digestSpace} {
		for first := 0; first < 256; first += 16 {
			last.to = []byte{space, byte(first)}
			spans = append(spans, last)
			last = span{from: last.to}
		}
	}
	return append(spans, last)
}
