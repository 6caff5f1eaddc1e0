package keyindex

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/store"
)

// Options of an index. The zero value is fit for production.
type Options struct {
	CacheBytes    int64  // block cache; default 128 MiB
	FrontBytes    int64  // what the front may take in memory, about 100 bytes a key; default 1 GiB, below 0: there is none
	MemTableBytes uint64 // default 4 MiB: a larger one slows reads, a smaller one writes
	Log           *slog.Logger
	// OnCorruption hears, once, that what is stored proved damaged. The next Open begins empty. It is
	// called where the damage is met, on a reader's path too, and must not block.
	OnCorruption func(error)
	FS           vfs.FS // default: the operating system's
}

// ErrClosed is returned by reads after Close.
var ErrClosed = errors.New("the index is closed")

// Index is safe for concurrent readers beside one writer.
type Index struct {
	dir  *directory
	opts Options
	db   *store.DB
	view atomic.Pointer[view]

	front   atomic.Pointer[inFront] // nil while there is none, or it is being filled
	filling sync.WaitGroup
	fill    *filler // under apply; nil once it was given up

	// In the order in which they are taken.
	installing sync.Mutex
	owner      sync.Mutex   // one Close, Reset or end of an Install at a time
	closing    sync.RWMutex // held for writing while the store is being closed
	apply      sync.Mutex   // one writer at a time

	closed bool
	open   context.Context // of long reads; ends when they must
	end    context.CancelFunc
}

// view is what readers see together, beside the keys, which are at least as new.
type view struct {
	position    events.Position
	digest      events.Digest
	charter     *projections.Charter
	deployments *Deployments
}

// Open opens the index in dir, or begins an empty one there, with mode 0700. One process may have it open
// at a time. A directory that holds anything else, or that a newer binary wrote, is refused and left as it
// is; one that was found corrupt begins empty.
func Open(dir string, opts Options) (*Index, error) {
	idx, err := open(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open index in %s: %w", dir, err)
	}
	return idx, nil
}

func open(dir string, opts Options) (*Index, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	d, err := openDirectory(dir, opts)
	if err != nil {
		return nil, err
	}
	idx := &Index{dir: d, opts: opts}
	if err := idx.openOrBeginEmpty(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.listen(opts.OnCorruption)
	return idx, nil
}

// Position is behind the last entry applied. Reads that begin after it was read see at least that much.
func (idx *Index) Position() events.Position { return idx.view.Load().position }

// Digest is that of everything that the index holds, and the Position it belongs to: two indexes that are behind the same
// entries have the same, if neither is damaged and both are of one DigestVersion.
func (idx *Index) Digest() (events.Position, events.Digest) {
	v := idx.view.Load()
	return v.position, v.digest
}

// Charter is what the log says of itself up to Position. It must not be changed.
func (idx *Index) Charter() *projections.Charter { return idx.view.Load().charter }

// Deployments are those registered at Position.
func (idx *Index) Deployments() *Deployments { return idx.view.Load().deployments }

// Find gives the edge part of the key whose secret, present or in its grace, has the digest; the zero
// Key if there is none. Whether the key opens anything is for projections.Allow to say.
func (idx *Index) Find(digest events.Digest) (projections.Key, error) {
	idx.closing.RLock()
	defer idx.closing.RUnlock()
	if idx.closed {
		return projections.Key{}, ErrClosed
	}
	k, err := find(idx.db, digest)
	return k, idx.noteDamage(err)
}

// noteDamage reports records that Pebble's checksums hold for sound and that are not. What Pebble itself
// finds, it reports itself.
func (idx *Index) noteDamage(err error) error {
	if errors.Is(err, errRecord) {
		idx.dir.reportCorruption(err)
	}
	return err
}

// Apply folds entries in, in one batch: all of it or nothing. It stays in memory until Pebble writes it to
// disk of its own accord, or until Close: after a crash the log is read again from the Position then found.
func (idx *Index) Apply(entries []events.Entry) (err error) {
	idx.closing.RLock()
	defer idx.closing.RUnlock()
	if idx.closed {
		return ErrClosed
	}
	idx.apply.Lock()
	defer idx.apply.Unlock()
	c := newChange(idx.db, idx.view.Load(), idx.fill, entries)
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.readKeys(entries); err != nil {
		return idx.noteDamage(err)
	}
	for _, entry := range entries {
		if err := c.fold(entry); err != nil {
			return idx.noteDamage(err)
		}
	}
	writes, err := c.writes()
	if err != nil {
		return err
	}
	if err := idx.db.Commit(writes); err != nil {
		return err
	}
	idx.showInFront(c)
	idx.view.Store(c.result()) // last: whoever reads the position finds the keys
	return nil
}

// Close makes what was applied durable. Reads and Apply return ErrClosed from then on.
func (idx *Index) Close() error {
	defer idx.shut()()
	if idx.closed {
		return nil
	}
	idx.closed = true
	return errors.Join(idx.db.Flush(), idx.closeStore(), idx.dir.close())
}

// find gives the key that a digest leads to, by an alias if need be.
func find(db *store.DB, digest events.Digest) (projections.Key, error) {
	k, alias, err := entryAt(db, digest)
	if err != nil || alias.IsZero() {
		return k, err
	}
	return findCurrent(db, alias)
}

// findCurrent gives the key that has the digest now. An alias may lead nowhere when the key was rotated or
// deleted between two reads.
func findCurrent(db *store.DB, digest events.Digest) (projections.Key, error) {
	k, _, err := entryAt(db, digest)
	return k, err
}

func entryAt(db *store.DB, digest events.Digest) (k projections.Key, alias events.Digest, err error) {
	_, err = get(db, digestKey(digest), func(value []byte) (err error) {
		k, alias, err = decodeEntryAt(digest, value)
		return err
	})
	return k, alias, err
}

func decodeEntryAt(digest events.Digest, value []byte) (k projections.Key, alias events.Digest, err error) {
	k, alias, err = decodeEntry(value)
	if err == nil && k.Exists() && k.Digest != digest {
		err = fmt.Errorf("%w: %s stands under another digest than its own", errRecord, k.ID)
	}
	return k, alias, err
}

// get shows read the value of key, which is not to be kept, and reports whether there is one.
func get(db pebble.Reader, key []byte, read func(value []byte) error) (found bool, err error) {
	value, closer, err := db.Get(key)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	defer func(c io.Closer) { err = errors.Join(err, c.Close()) }(closer)
	return true, read(value)
}
