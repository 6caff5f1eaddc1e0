package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/sealing"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/proof"
	"github.com/keyfleet/keyfleet/projections/store"
)

// Options of a catalog. The zero value is fit for production.
type Options struct {
	CacheBytes int64 // block cache; default 128 MiB
	FS         vfs.FS
	Log        *slog.Logger
	Ring       *sealing.Ring // opens sealed admin parts; default: such are not folded in
	// OnDamage hears, once, that what is stored proved damaged. The next Open begins anew. It is called where the damage is
	// met, and must not block.
	OnDamage func(error)
}

func (o *Options) ensureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnDamage == nil {
		o.OnDamage = func(error) {}
	}
}

// Catalog is safe for concurrent readers beside one writer.
type Catalog struct {
	db    *store.DB
	ring  *sealing.Ring
	state atomic.Pointer[state]
	floor *floor

	unstored unstored
	unseen   *unseen

	closing    chan struct{}
	background sync.WaitGroup

	usageFlushed time.Time
}

// state is what readers see together.
type state struct {
	position events.Position
	charter  projections.Charter
	tree     proof.Frontier // of the events up to position
}

// meta is stored beside the charter, which changes seldom.
type meta struct {
	Format   int
	Position events.Position
	Tree     []byte // a proof.Frontier
}

// Open opens the catalog in dir, or begins an empty one there: in the place of one that is damaged, too. One process may have
// it open at a time.
func Open(dir string, opts Options) (*Catalog, error) {
	opts.ensureDefaults()
	c, err := openOrBeginAnew(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open catalog in %s: %w", dir, err)
	}
	c.background.Go(func() {
		_ = c.unseen.takeIn(c.db, c.closing) // without it everything is looked for; who meets the damage will say so
	})
	return c, nil
}

func open(dir string, opts Options) (*Catalog, error) {
	db, err := store.Open(dir, store.Options{
		CacheBytes: cmp.Or(opts.CacheBytes, 128<<20), MemTableBytes: memTableBytes, Unsorted: unsorted, FS: opts.FS, Log: opts.Log,
		OnDamage: opts.marking(dir),
	})
	if err != nil {
		return nil, err
	}
	c := &Catalog{db: db, ring: opts.Ring, floor: newFloor(), unseen: newUnseen(), closing: make(chan struct{})}
	if err := errors.Join(c.load(), c.learnDataKeys()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

func (c *Catalog) load() error {
	v := View{r: c.db}
	m, found, err := get[meta](&v, metaKey)
	if err != nil {
		return err
	}
	if !found {
		m.Format = format
	}
	switch {
	case m.Format < format:
		return fmt.Errorf("%w: format %d, and this binary reads format %d", errOlder, m.Format, format)
	case m.Format > format:
		return fmt.Errorf("it is of format %d, this binary reads format %d: "+
			"use the binary that wrote it, or remove the directory to rebuild it from the log", m.Format, format)
	}
	s := state{position: m.Position}
	if len(m.Tree) > 0 {
		if err := s.tree.UnmarshalBinary(m.Tree); err != nil {
			return err
		}
	}
	if s.charter, _, err = get[projections.Charter](&v, charterKey); err != nil {
		return err
	}
	c.state.Store(&s)
	c.unstored.charter = s.charter.ChangedAt
	return nil
}

// Position is behind the last commit folded in.
func (c *Catalog) Position() events.Position { return c.state.Load().position }

// Head is Position and the root of the tree that ends there.
func (c *Catalog) Head() (events.Position, proof.Root) {
	s := c.state.Load()
	return s.position, s.tree.Root()
}

// Ring has the data keys that were brought so far, of what is not durable yet too.
func (c *Catalog) Ring() *sealing.Ring { return c.ring }

// Charter is what the log says of itself up to Position. It must not be written to.
func (c *Catalog) Charter() *projections.Charter { return &c.state.Load().charter }

// Read gives a view of the state at this moment, or a little later: see Reader. It must be released with Close.
func (c *Catalog) Read() *Reader {
	// State first: a commit in between makes what is read newer than the Position that it is answered with.
	s := c.state.Load()
	lowered := c.floor.lowerings()
	r := &reading{catalog: c, pending: &pending{DB: c.db}}
	r.changes.Store(&changes{under: c.unstored.newest()})
	return &Reader{View: View{r: r, pending: r.pending, charter: &s.charter, floor: c.floor}, Position: s.position, reading: r, lowered: lowered}
}

// Reader is a View at a Position, or a little newer: look-ups see what was committed when it was opened, or since; from the first
// iteration on everything is read from one state, that of then. One goroutine may use it at a time.
type Reader struct {
	View
	Position events.Position
	reading  *reading
	lowered  int // the floor's count when it was opened
}

// Close releases the reader.
func (r *Reader) Close() error { return r.reading.Close() }

// reading is what a Reader reads. Who only looks up is spared the wait until everything is stored.
type reading struct {
	*pending
	catalog  *Catalog
	snapshot *pebble.Snapshot // from the first iteration on
}

func (r *reading) Get(key []byte) ([]byte, io.Closer, error) {
	if r.snapshot != nil {
		return r.snapshot.Get(key)
	}
	return r.pending.Get(key)
}

func (r *reading) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) {
	if r.snapshot == nil {
		if err := r.catalog.store(); err != nil { // look-ups find nothing unstored any more from here on
			return nil, err
		}
		r.snapshot = r.catalog.db.NewSnapshot()
	}
	return r.snapshot.NewIter(o)
}

func (r *reading) Close() error {
	if r.snapshot == nil {
		return nil
	}
	return r.snapshot.Close()
}

// Apply folds entries of the log in. What is stored of them ends with one of them.
func (c *Catalog) Apply(entries []events.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	err := c.applyAtOnce(entries)
	if err == nil || len(entries) == 1 {
		return err
	}
	for i := range entries { // as far as they go
		if err := c.applyAtOnce(entries[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) applyAtOnce(entries []events.Entry) error {
	t := c.Begin(entries[0].Commit.First, entries[0].StreamSeq, entries[0].Commit.Time)
	s := *c.state.Load()
	for _, e := range entries {
		t.streamSeq, t.at = e.StreamSeq, e.Commit.Time
		if err := t.Fold(e.Commit.Events()...); err != nil {
			return err
		}
		if err := t.pass(&s, e); err != nil {
			return err
		}
	}
	return t.commit(&s)
}

// Close flushes what is in memory, so that the next Open has less to fold in again.
func (c *Catalog) Close() error {
	close(c.closing)
	c.background.Wait()
	return errors.Join(c.store(), c.db.Flush(), c.db.Close())
}
