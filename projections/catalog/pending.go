package catalog

import (
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/projections/store"
)

// reader is what a View reads: a snapshot, or the database with a Txn's writes before it.
type reader interface {
	Get(key []byte) ([]byte, io.Closer, error)
	NewIter(*pebble.IterOptions) (*pebble.Iterator, error)
}

// pending is what a Txn has written, over the database. Look-ups see it; iterators do not: the one thing that
// decisions iterate over is the calendar, see Txn.Due. (An indexed batch shows both, and costs a second skiplist
// for every write and read.)
type pending struct {
	*store.DB
	unseen *unseen
	batch  *pebble.Batch
	writes map[string]write
}

type write struct {
	value []byte
	gone  bool
}

func (p *pending) Get(key []byte) ([]byte, io.Closer, error) {
	w, written := p.writes[string(key)]
	switch {
	case !written && p.unseen.has(key):
		return nil, nil, pebble.ErrNotFound
	case !written:
		return p.DB.Get(key)
	case w.gone:
		return nil, nil, pebble.ErrNotFound
	default:
		return w.value, nothingToClose{}, nil
	}
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

func (p *pending) removed(key []byte) bool { return p.writes[string(key)].gone }

type nothingToClose struct{}

func (nothingToClose) Close() error { return nil }
