package keyindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/store"
)

// openOrBeginEmpty opens the store, after whatever the directory says is to be done with it. A damaged one is
// thrown away.
func (idx *Index) openOrBeginEmpty() error {
	d := idx.dir
	if err := d.prepareStore(); err != nil {
		return err
	}
	err := idx.openStore()
	if isDamage(err) || d.found() != nil {
		d.log.Warn("the index is corrupt: beginning an empty one", "dir", d.path, "error", errors.Join(err, d.found()))
		if err == nil {
			_ = idx.closeStore() // it goes either way
		}
		if err = d.empty(); err == nil {
			err = idx.openStore()
		}
	}
	return err
}

func isDamage(err error) bool {
	return errors.Is(err, store.ErrDamaged) || pebble.IsCorruptionError(err) || errors.Is(err, errRecord)
}

func (idx *Index) openStore() (err error) {
	if idx.db, err = idx.opts.open(idx.dir.store(), idx.dir.reportCorruption); err != nil {
		return err
	}
	if err := idx.load(); err != nil {
		return errors.Join(err, idx.closeStore())
	}
	idx.open, idx.end = context.WithCancel(context.Background())
	idx.startFront()
	return nil
}

func (idx *Index) closeStore() error {
	idx.front.Store(nil)
	return idx.db.Close()
}

// open opens a store. What is damaged in it must not end the process, and with it the answer to whom that does not concern.
func (o *Options) open(dir string, onDamage func(error)) (*store.DB, error) {
	unsorted := 0
	if o.frontBytes() > 0 { // checks do not wait for the store
		unsorted = 16
	}
	return store.Open(dir, store.Options{
		CacheBytes:    cmp.Or(o.CacheBytes, 128<<20),
		MemTableBytes: cmp.Or(o.MemTableBytes, 4<<20),
		Unsorted:      unsorted,
		FS:            o.FS,
		Log:           o.Log,
		OnDamage:      onDamage,
	})
}

// shut waits until nothing reads the store any more, and lets nothing begin until the function that it gives is called.
func (idx *Index) shut() (reopen func()) {
	idx.owner.Lock()
	idx.end()
	idx.closing.Lock()
	idx.filling.Wait() // nothing begins to fill any more: Apply does not run
	return func() {
		idx.closing.Unlock()
		idx.owner.Unlock()
	}
}

// Reset throws everything away that is stored, for a reason that people will want to read, and begins empty: Position is
// zero then, and what reads the log has to begin anew. Readers wait meanwhile; whoever answers from the index has to
// stop before. A crash leaves the index as it was, or empty. After an error the index may be closed.
func (idx *Index) Reset(why error) error {
	defer idx.shut()()
	if idx.closed {
		return ErrClosed
	}
	if err := idx.dir.write(corruptFile, why.Error()+"\n"); err != nil {
		return err
	}
	return idx.reopen()
}

// reopen does what the next Open would do. The store is to be shut.
func (idx *Index) reopen() error {
	_ = idx.closeStore() // what it has in memory goes either way
	idx.dir.listen(nil)
	if err := idx.openOrBeginEmpty(); err != nil {
		idx.closed = true
		return errors.Join(err, idx.dir.close())
	}
	idx.dir.listen(idx.opts.OnCorruption)
	return nil
}

// load reads what readers find in memory.
func (idx *Index) load() error {
	v, err := loadView(idx.db)
	if err != nil {
		return err
	}
	if err := v.understood(); err != nil {
		return err
	}
	idx.view.Store(v)
	return nil
}

func (v *view) understood() error {
	if v.charter.Schema > events.Schema {
		return fmt.Errorf("%w: it was written from a log of schema %d, this binary understands schema %d",
			events.ErrUnknownSchema, v.charter.Schema, events.Schema)
	}
	return nil
}

func loadView(r pebble.Reader) (*view, error) {
	v := view{charter: &projections.Charter{}, deployments: noDeployments()}
	_, err := get(r, positionKey, func(value []byte) (err error) {
		v.position, v.digest, err = decodePosition(value)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, err = get(r, charterKey, func(value []byte) error {
		charter, err := decodeCharter(value)
		v.charter = &charter
		return err
	})
	if err != nil {
		return nil, err
	}
	return &v, loadDeployments(r, v.deployments)
}

func loadDeployments(r pebble.Reader, into *Deployments) (err error) {
	iter, err := r.NewIter(&pebble.IterOptions{
		LowerBound: []byte{deploymentSpace}, UpperBound: []byte{deploymentSpace + 1},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := iter.First(); ok; ok = iter.Next() {
		d, err := decodeDeployment(iter.Value())
		if err != nil {
			return err
		}
		if err := into.add(&Deployment{Deployment: d}); err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
	}
	return iter.Error()
}
