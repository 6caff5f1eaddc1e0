package catalog

import (
	"bytes"
	"errors"
	"math"
	"sync"

	"github.com/keyfleet/keyfleet/events"
)

// DueKind says what falls due.
type DueKind byte

// What can fall due.
const (
	ExpiryDue DueKind = iota
	GraceDue
)

// Due is one entry of the calendar.
type Due struct {
	At   events.Instant
	Kind DueKind
	Key  events.KeyID
}

// Due gives what falls due at or before now, the earliest first, at most limit of it. What the Txn itself has
// added is left for the next.
func (t *Txn) Due(now events.Instant, limit int) ([]Due, error) {
	if t.floor.instant() > now {
		return nil, nil
	}
	if err := t.catalog.store(); err != nil {
		return nil, err
	}
	var due []Due
	removed := t.pending.removals()
	err := t.walk(t.floor.get(), dueEnd, false, func(key, _ []byte) (bool, error) {
		d := readDue(key)
		if d.At > now || len(due) == limit {
			return false, nil
		}
		if !removed(key) {
			due = append(due, d)
		}
		return true, nil
	})
	return due, err
}

// Expiring counts the keys whose lifetimes end behind one instant and not behind another.
func (v *View) Expiring(behind, until events.Instant) (n int, err error) {
	err = v.walk(dueBefore(behind+1), dueBefore(until+1), false, func(key, _ []byte) (bool, error) {
		if readDue(key).Kind == ExpiryDue {
			n++
		}
		return true, nil
	})
	return n, err
}

// NextDue is the instant of the calendar's first entry, or an earlier one that lies behind now: most of the time nothing has to be
// read to tell. It is events.Never where nothing will fall due. Call it from where the catalog is written to, with no Txn open: it
// raises the calendar's floor.
func (c *Catalog) NextDue(now events.Instant) (events.Instant, error) {
	if at := c.floor.instant(); at > now {
		return at, nil
	}
	r := c.Read()
	first := dueEnd
	err := r.walk(r.floor.get(), dueEnd, false, func(key, _ []byte) (bool, error) {
		first = bytes.Clone(key)
		return false, nil
	})
	if err = errors.Join(err, r.Close()); err != nil {
		return 0, err
	}
	c.floor.raise(first, r.lowered)
	return instantOf(first), nil
}

func readDue(key []byte) Due {
	return Due{At: readInstant(key[1:9]), Kind: DueKind(key[9]), Key: events.KeyID(key[10:])}
}

var dueEnd = after([]byte{dueSpace})

// floor is a key below which the calendar is known to be empty. Without it every look at the calendar would
// walk over the remains of all that was ever due: Pebble keeps deleted keys until it compacts them away.
type floor struct {
	mu      sync.Mutex
	key     []byte
	lowered int // how often
}

func newFloor() *floor { return &floor{key: []byte{dueSpace}} }

func (f *floor) get() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.key
}

func (f *floor) lowerings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lowered
}

// instant is that before which nothing falls due.
func (f *floor) instant() events.Instant { return instantOf(f.get()) }

// instantOf reads a key of the calendar, or one of its ends.
func instantOf(key []byte) events.Instant {
	switch {
	case bytes.Compare(key, dueEnd) >= 0:
		return events.Never
	case len(key) < len(dueBefore(0)):
		return math.MinInt64
	default:
		return readDue(key).At
	}
}

// lower makes room for a key that is about to be written, durable or not.
func (f *floor) lower(to []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lowered++; bytes.Compare(to, f.key) < 0 {
		f.key = bytes.Clone(to)
	}
}

// raise takes in what was read from a state since whose opening nothing must have been written to the calendar.
func (f *floor) raise(to []byte, lowered int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lowered == lowered && bytes.Compare(to, f.key) > 0 {
		f.key = to
	}
}
