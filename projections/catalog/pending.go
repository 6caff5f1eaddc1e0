package catalog

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/store"
)

// reader is what a View reads: a snapshot, or the database with a Txn's writes before it.
type reader interface {
	Get(key []byte) ([]byte, io.Closer, error)
	NewIter(*pebble.IterOptions) (*pebble.Iterator, error)
}

// pending is what a Txn has changed, over what was changed before and the database. Look-ups see it; iterators do not: the one
// thing that decisions iterate over is the calendar, see Txn.Due. (An indexed batch shows both, and costs a second skiplist
// for every write and read.)
type pending struct {
	*store.DB
	unseen  *unseen                 // the writer's
	batch   *store.Writes           // what is to be written, but for keys and counts
	changes atomic.Pointer[changes] // nil once they are in the database
	read    keyRecord               // the Txn's: the key that was found in the database last, for most commands ask for one again and again
}

// changes are what look-ups see of a pending. Only its Txn writes to them.
type changes struct {
	under   *pending         // what was changed before
	spaces  uint32           // those of writes, see spaceBit
	writes  map[string]write // that are looked up, but for what follows
	keys    map[events.KeyID]*keyRecord
	counted map[string]Project
}

type write struct {
	value []byte
	gone  bool
}

func newPending(db *store.DB, u *unseen, under *pending) *pending {
	p := &pending{DB: db, unseen: u, batch: newBatch()}
	writes, keys := 0, 0
	if c := under.held(); c != nil { // of about the same size
		writes, keys = len(c.writes), len(c.keys)
	}
	p.changes.Store(&changes{
		under: under, writes: make(map[string]write, writes), keys: make(map[events.KeyID]*keyRecord, keys), counted: map[string]Project{},
	})
	return p
}

// batches are those that are in the database: what they have room for, others will need again.
var batches sync.Pool

func newBatch() *store.Writes {
	if w, kept := batches.Get().(*store.Writes); kept {
		return w
	}
	return &store.Writes{}
}

// held are the changes that are not in the database yet. A look-up that finds none has to look there behind this.
func (p *pending) held() *changes {
	if p == nil {
		return nil
	}
	return p.changes.Load()
}

func (p *pending) Get(key []byte) ([]byte, io.Closer, error) {
	if p.unseen.has(key) {
		return nil, nil, pebble.ErrNotFound
	}
	w, written := p.written(key)
	switch {
	case written && w.gone:
		return nil, nil, pebble.ErrNotFound
	case written:
		return w.value, nothingToClose{}, nil
	default:
		return p.DB.Get(key)
	}
}

func (p *pending) written(key []byte) (w write, written bool) {
	bit := spaceBit(key)
	for c := p.held(); c != nil && !written; c = c.under.held() {
		if c.spaces&bit != 0 {
			w, written = c.writes[string(key)]
		}
	}
	return w, written
}

// spaceBit stands for a key's space. Most commits write to few of them, and a look-up may have many commits to go through.
func spaceBit(key []byte) uint32 { return 1 << (key[0] - 'A') }

func (c *changes) write(key []byte, w write) {
	c.spaces |= spaceBit(key)
	c.writes[string(key)] = w
}

// key gives a key that was changed, or surely never was; the zero Key for this and for one that was deleted.
func (p *pending) key(id events.KeyID) (k keyRecord, known bool) {
	if p == nil {
		return k, false
	}
	if p.unseen.has(idKey(keySpace, id)) {
		return k, true
	}
	for c := p.held(); c != nil; c = c.under.held() {
		if k, known := c.keys[id]; known {
			return *k, true
		}
	}
	if p.read.ID == id && p.unseen != nil {
		return p.read, true
	}
	return k, false
}

func (p *pending) remember(k *keyRecord) {
	if p != nil && p.unseen != nil {
		p.read = *k
	}
}

func (p *pending) project(name string) (project Project, known bool) {
	for c := p.held(); c != nil && !known; c = c.under.held() {
		project, known = c.counted[name]
	}
	return project, known
}

func (p *pending) count(project Project) { p.held().counted[project.Name] = project }

// put keeps value: it must not be written to any more.
func (p *pending) put(key, value []byte) {
	p.unseen.put(key)
	p.held().write(key, write{value: value})
	p.batch.Set(key, value)
}

// list writes what is only ever iterated over: no look-up sees it before it is in the database.
func (p *pending) list(key, value []byte) { p.batch.Set(key, value) }

func (p *pending) remove(key []byte) {
	p.unseen.remove(key)
	p.held().write(key, write{gone: true})
	p.batch.Delete(key)
}

// unlist removes all that begins with prefix of what is only ever iterated over.
func (p *pending) unlist(prefix []byte) { p.batch.DeleteRange(prefix, after(prefix)) }

// removals tells what was removed by changes that an iterator opened from now on may not see: they may be stored any moment, and held
// no more.
func (p *pending) removals() func(key []byte) bool {
	var all []*changes
	for c := p.held(); c != nil; c = c.under.held() {
		all = append(all, c)
	}
	return func(key []byte) bool {
		for _, c := range all {
			if w, written := c.writes[string(key)]; written {
				return w.gone
			}
		}
		return false
	}
}

// keep keeps a key as it is now, which must not be written to any more; the zero one where there is none any more.
func (p *pending) keep(id events.KeyID, now *keyRecord) {
	if key := idKey(keySpace, id); now.Exists() {
		p.unseen.put(key)
	} else {
		p.unseen.remove(key)
	}
	p.held().keys[id] = now
}

// bytes is about what it takes in the database.
func (p *pending) bytes() int { return p.batch.Size() + usualKey*len(p.held().keys) }

const usualKey = 200 // bytes of a key's record

// finish puts what its batch has been left without into w, however often it changed.
func (p *pending) finish(w *store.Writes) (err error) {
	c := p.held()
	for id, k := range c.keys {
		if k.Exists() {
			enter(w, idKey(keySpace, id), k, &err)
		} else {
			w.Delete(idKey(keySpace, id))
		}
	}
	for name, project := range c.counted {
		enter(w, projectKey(name), project, &err)
	}
	return err
}

func enter(w *store.Writes, key []byte, value any, err *error) {
	*err = errors.Join(*err, encode(value, func(data []byte) { w.Set(key, data) }))
}

type nothingToClose struct{}

func (nothingToClose) Close() error { return nil }
