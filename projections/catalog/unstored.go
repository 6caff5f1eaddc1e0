package catalog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/store"
)

// unstored is what was committed and is not in the database yet: Pebble takes a large batch for half the work that many small
// ones are. Look-ups go through it; whoever is about to iterate has it stored first. A crash loses it, as it loses what Pebble has
// in memory: the log has it.
type unstored struct {
	storing sync.Mutex // held by who stores
	beside  atomic.Bool
	charter events.Seq // at which the charter changed that is in the database; whoever stores may use it

	mu     sync.Mutex
	layers []layer // the oldest first
	bytes  int
}

// layer is one commit's changes, and the state that they led to.
type layer struct {
	*pending
	state *state
	bytes int
}

const (
	memTableBytes = 16 << 20
	unsorted      = 8                 // as store.Options has it. A few larger ones do as well, but a listing may have to wait for one
	storeBytes    = memTableBytes / 2 // Pebble makes tables of such batches without a detour
	storeLayers   = 128               // a look-up may have to go through as many
)

func (u *unstored) add(l layer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.layers, u.bytes = append(u.layers, l), u.bytes+l.bytes
}

// drop lets so many of the oldest go: they are in the database.
func (u *unstored) drop(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range n {
		u.bytes -= u.layers[i].bytes
	}
	u.layers = append([]layer(nil), u.layers[n:]...)
}

func (u *unstored) all() []layer {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.layers
}

// newest is where look-ups of what is next have to begin; nil if everything is in the database.
func (u *unstored) newest() *pending {
	if all := u.all(); len(all) > 0 {
		return all[len(all)-1].pending
	}
	return nil
}

// fill says how much there is, as a share of what should be stored.
func (u *unstored) fill() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return max(float64(u.bytes)/storeBytes, float64(len(u.layers))/storeLayers)
}

// take makes what was folded in the catalog's state, to be stored in time.
func (c *Catalog) take(p *pending, s *state) error {
	c.unstored.add(layer{pending: p, state: s, bytes: p.bytes()})
	c.state.Store(s)
	fill := c.unstored.fill()
	if fill >= 2 { // the disk does not keep up, or fails
		return c.store()
	}
	if fill >= 1 && c.unstored.beside.CompareAndSwap(false, true) {
		c.background.Go(func() {
			defer c.unstored.beside.Store(false)
			_ = c.store() // if it fails, it will be tried again, and soon by one who can tell
		})
	}
	return nil
}

// store writes to the database what was committed so far.
func (c *Catalog) store() error {
	u := &c.unstored
	u.storing.Lock()
	defer u.storing.Unlock()
	layers := u.all()
	if len(layers) == 0 {
		return nil
	}
	s := layers[len(layers)-1].state
	keys := 0
	for _, l := range layers {
		keys += len(l.held().keys)
	}
	all, last, err := make([]*store.Writes, 0, len(layers)+1), store.NewWrites(keys+2, keys*usualKey), error(nil)
	for _, l := range layers {
		all, err = append(all, l.batch), errors.Join(err, l.finish(&last))
	}
	roots, _ := s.tree.MarshalBinary() // never fails
	enter(&last, metaKey, meta{Format: format, Position: s.position, Tree: roots}, &err)
	if s.charter.ChangedAt != u.charter {
		enter(&last, charterKey, s.charter, &err)
	}
	if err == nil {
		err = c.db.Commit(append(all, &last)...)
	}
	if err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	u.charter = s.charter.ChangedAt
	u.drop(len(layers))
	for _, l := range layers {
		l.changes.Store(nil)
		l.batch.Reset()
		batches.Put(l.batch)
		l.batch = nil
	}
	return nil
}
