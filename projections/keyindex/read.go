package keyindex

import (
	"bytes"
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// hold runs act while the store stays open. Its ctx ends with ErrClosed when the store has to be closed, which waits
// for it.
func (idx *Index) hold(ctx context.Context, act func(context.Context) error) error {
	idx.closing.RLock()
	defer idx.closing.RUnlock()
	if idx.closed {
		return ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(idx.open, func() { cancel(ErrClosed) })()
	return act(ctx)
}

// readLong holds the store as it stands between two Applies, and what readers find in memory then.
func (idx *Index) readLong(ctx context.Context, read func(context.Context, pebble.Reader, *view) error) error {
	return idx.hold(ctx, func(ctx context.Context) error {
		idx.apply.Lock()
		snapshot, shown := idx.db.NewSnapshot(), idx.view.Load()
		idx.apply.Unlock()
		return errors.Join(read(ctx, snapshot, shown), snapshot.Close())
	})
}

// stretch is how much is read with one iterator. While it is open, tables that compactions have replaced stay on the disk.
const stretch = 1 << 20

// span is a range of the store's keys: from included, to excluded, each open if nil.
type span struct{ from, to []byte }

// eachRecord shows visit every record of the span but the position's, in the order of their keys. Key and value are
// not to be kept.
func eachRecord(ctx context.Context, r pebble.Reader, s span, pace *pace, visit func(key, value []byte) error) error {
	for {
		next, read, err := visitStretch(r, s, visit)
		if err != nil {
			return err
		}
		if err := pace.wait(ctx, read); err != nil || next == nil {
			return err
		}
		s.from = next
	}
}

// visitStretch gives the key to go on from; nil at the end.
func visitStretch(r pebble.Reader, s span, visit func(key, value []byte) error) (next []byte, read int, err error) {
	iter, err := r.NewIter(&pebble.IterOptions{LowerBound: s.from, UpperBound: s.to})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := iter.First(); ok; ok = iter.Next() {
		if read >= stretch {
			return bytes.Clone(iter.Key()), read, nil
		}
		value, err := iter.ValueAndErr()
		if err != nil {
			return nil, read, err
		}
		read += len(iter.Key()) + len(value)
		if bytes.Equal(iter.Key(), positionKey) {
			continue
		}
		if err := visit(iter.Key(), value); err != nil {
			return nil, read, err
		}
	}
	return nil, read, iter.Error()
}
