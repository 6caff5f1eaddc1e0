package catalog

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/store"
)

// reader is what a View reads: a snapshot, or the database with a Txn's writes before it.
type reader interface {
	Get(key []byte) ([]byte, io.Closer, error)
	NewIter(*pebble.IterOptions) (*pebble.Iterator, error)
}

// pending is what a Txn has changed, over the database. Look-ups see it; iterators do not: the one thing that
// decisions iterate over is the calendar, see Txn.Due. (An indexed batch shows both, and costs a second skiplist
// for every write and read.)
type pending struct {
	*store.DB
	unseen  *unseen
	under   *pending // of the Txn that this one was begun behind; nil once that is in the database
	batch   *pebble.Batch
	writes  map[string]write // that are looked up, but for what follows
	keys    map[events.KeyID]projections.Key
	counted map[string]Project
}

type write struct {
	value []byte
	gone  bool
}

func newPending(db *store.DB, u *unseen, under *pending) *pending {
	return &pending{
		DB: db, unseen: u, under: under, batch: db.NewBatch(),
		writes: map[string]write{}, keys: map[events.KeyID]projections.Key{}, counted: map[string]Project{},
	}
}

func (p *pending) Get(key []byte) ([]byte, io.Closer, error) {
	w, written := p.written(key)
	switch {
	case written && w.gone, !written && p.unseen.has(key):
		return nil, nil, pebble.ErrNotFound
	case written:
		return w.value, nothingToClose{}, nil
	default:
		return p.DB.Get(key)
	}
}

func (p *pending) written(key []byte) (w write, written bool) {
	for ; p != nil && !written; p = p.under {
		w, written = p.writes[string(key)]
	}
	return w, written
}

// key gives a key that was changed; the zero Key for one that was deleted.
func (p *pending) key(id events.KeyID) (k projections.Key, changed bool) {
	for ; p != nil && !changed; p = p.under {
		k, changed = p.keys[id]
	}
	return k, changed
}

func (p *pending) project(name string) (c Project, known bool) {
	for ; p != nil && !known; p = p.under {
		c, known = p.counted[name]
	}
	return c, known
}

// put keeps key and value: they must not be written to any more.
func (p *pending) put(key, value []byte) error {
	p.unseen.put(key)
	p.writes[string(key)] = write{value: value}
	return p.batch.Set(key, value, nil)
}

func (p *pending) remove(key []byte) error {
	p.writes[string(key)] = write{gone: true}
	return p.batch.Delete(key, nil)
}

func (p *pending) removed(key []byte) bool {
	w, _ := p.written(key)
	return w.gone
}

// list writes what is only ever iterated over: no look-up will see it before it is committed.
func (p *pending) list(key, value []byte) error { return p.batch.Set(key, value, nil) }

// changeKey keeps a key as it is now, to be stored with the commit.
func (p *pending) changeKey(old, now *projections.Key) {
	id := old.ID
	if now.Exists() {
		id = now.ID
		p.unseen.put(idKey(keySpace, id))
	}
	p.keys[id] = *now
}

// store writes what is stored once, however often it changed.
func (p *pending) store() (err error) {
	for id, k := range p.keys {
		if k.Exists() {
			p.enter(idKey(keySpace, id), k, &err)
		} else {
			err = errors.Join(err, p.batch.Delete(idKey(keySpace, id), nil))
		}
	}
	for name, c := range p.counted {
		p.enter(projectKey(name), c, &err)
	}
	return err
}

func (p *pending) enter(key []byte, value any, err *error) {
	data, e := marshal(value)
	if e == nil {
		e = p.batch.Set(key, data, nil)
	}
	*err = errors.Join(*err, e)
}

type nothingToClose struct{}

func (nothingToClose) Close() error { return nil }
