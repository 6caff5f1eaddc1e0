package front

import (
	"errors"
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/keyfleet/keyfleet/events"
)

// Outcome is what a look came to.
type Outcome uint8

// The outcomes.
const (
	Ask    Outcome = iota // the index has to be asked: the zero value is the safe one
	Absent                // nothing has the digest
	Found
)

// ErrFull says that the table would take more memory than it was given. It is to be given up.
var ErrFull = errors.New("the front would take more memory than it was given")

const (
	smallest   = 1 << 12 // slots
	maxProbes  = 1024    // a look never passes more slots; digests that are digests stay far below it (about 400 in ten million)
	maxRetries = 1000    // of a slot that is being written
)

// Table is for one writer and any number of readers.
type Table struct {
	slots atomic.Pointer[slots]
	limit int64 // bytes
	used  int   // slots that are not empty
	gone  int   // of them, those whose key went
}

// slots is the memory of a table. It is never written again once another has taken its place.
type slots struct {
	all     []slot
	spilled atomic.Bool // something did not fit within maxProbes: what is not found may be in the index
}

// New makes an empty table that takes at most limit bytes, with room for about so many keys.
func New(limit int64, keys int) (*Table, error) {
	t := &Table{limit: limit}
	return t, t.resize(max(smallest, min(roomFor(keys), int(limit/slotBytes))))
}

// MakeRoom grows the table for so many keys in all, unless it is large enough: for a writer that knows of more keys than it puts
// now. After ErrFull the table is not to be used any more.
func (t *Table) MakeRoom(keys int) error {
	if size := len(t.slots.Load().all); keys >= size/4*3 {
		return t.resize(roomFor(keys + keys/2)) // for a while, or a replay copies it again and again
	}
	return nil
}

// roomFor is how many slots keep so many keys for some time.
func roomFor(keys int) int { return keys + keys/2 }

// Full reports whether the table takes all the memory that it was given.
func (t *Table) Full() bool { return t.Bytes()+slotBytes > t.limit }

// Bytes is the memory that the table takes.
func (t *Table) Bytes() int64 { return int64(len(t.slots.Load().all)) * slotBytes }

// Expect says that Look is about to be called: the memory that it will read is on its way meanwhile.
func (t *Table) Expect(d *events.Digest) {
	s := t.slots.Load()
	at := s.home(prefixOf(d))
	Prefetch(unsafe.Pointer(&s.all[at]))
	Prefetch(unsafe.Pointer(&s.all[s.next(at)])) // every other look goes on to it
	runtime.KeepAlive(s)
}

// Look finds the digest's entry. It may be called at any time, by anyone.
func (t *Table) Look(d *events.Digest, e *Entry) Outcome {
	s, p := t.slots.Load(), prefixOf(d)
	defer runtime.KeepAlive(s) // its memory goes with it
	at, reach := s.home(p), maxProbes
	var words slot
	for passed := 0; passed <= reach; passed++ {
		if !read(&s.all[at], &words) && !s.readAgain(at, &words) {
			return Ask
		}
		if passed == 0 {
			reach = reachOf(words[0])
		}
		switch kind := kindOf(words[0]); {
		case kind == kindEmpty:
			return s.absent()
		case kind == kindGone || words[1] != p[0] || words[2] != p[1]:
			at = s.next(at)
		case kind == kindElsewhere:
			return Ask
		default:
			e.read(&words)
			return Found
		}
	}
	return s.absent()
}

func (s *slots) absent() Outcome {
	if s.spilled.Load() {
		return Ask
	}
	return Absent
}

// readAgain reads a slot that was being written.
func (s *slots) readAgain(at int, words *slot) bool {
	for range maxRetries {
		runtime.Gosched()
		if read(&s.all[at], words) {
			return true
		}
	}
	return false
}

// home is where a digest's slot is looked for first. It keeps the order of digests, so that a sorted fill writes one slot
// after another.
func (s *slots) home(p prefix) int {
	at, _ := bits.Mul64(p[0], uint64(len(s.all)))
	return int(at)
}

func (s *slots) next(at int) int {
	if at++; at == len(s.all) {
		return 0
	}
	return at
}

// Put says what the digest leads to. After ErrFull the table is not to be used any more.
func (t *Table) Put(d *events.Digest, e *Entry) error {
	p := prefixOf(d)
	words := e.words(p)
	return t.put(p, &words)
}

// Leave says that the index has to be asked about the digest, which leads to the key.
func (t *Table) Leave(d *events.Digest, key events.KeyID) error {
	p := prefixOf(d)
	words := (&Entry{Key: key}).words(p)
	words[0] = kindElsewhere << kindShift
	return t.put(p, &words)
}

func (t *Table) put(p prefix, words *slot) error {
	if err := t.makeRoom(); err != nil {
		return err
	}
	s := t.slots.Load()
	at, found, free := s.find(p)
	switch {
	case found && (s.all[at][3] != words[3] || s.all[at][4] != words[4]):
		words = &slot{kindElsewhere << kindShift, p[0], p[1]} // two keys, or more: only the index can tell, from now on
	case !found && free < 0:
		s.spilled.Store(true)
		return nil
	case !found:
		at = free
		if kindOf(s.all[at][0]) == kindGone {
			t.gone--
		} else {
			t.used++
		}
	}
	write(&s.all[at], words)
	s.stretch(p, at)
	return nil
}

// stretch has looks for the prefix come as far as to the slot.
func (s *slots) stretch(p prefix, at int) {
	home := s.home(p)
	reach := at - home
	if reach < 0 {
		reach += len(s.all)
	}
	stretch(&s.all[home], reach)
}

// find gives the digest's slot, or the first one that is free for it: -1 if there is none within reach.
func (s *slots) find(p prefix) (at int, found bool, free int) {
	free = -1
	at = s.home(p)
	for range maxProbes {
		words := &s.all[at] // the writer's own reads need no version
		switch kind := kindOf(words[0]); {
		case kind == kindEmpty:
			if free < 0 {
				free = at
			}
			return at, false, free
		case kind == kindGone:
			if free < 0 {
				free = at
			}
		case words[1] == p[0] && words[2] == p[1]:
			return at, true, free
		}
		at = s.next(at)
	}
	return 0, false, free
}

// Drop says that nothing has the digest any more. Where two keys were, the index has to be asked for good.
func (t *Table) Drop(d *events.Digest) {
	s := t.slots.Load()
	at, found, _ := s.find(prefixOf(d))
	if shared := s.all[at][3] == 0 && s.all[at][4] == 0; found && !shared {
		write(&s.all[at], &slot{kindGone << kindShift})
		t.gone++
	}
}

// makeRoom keeps a quarter of the slots empty, so that looks are short.
func (t *Table) makeRoom() error {
	size := len(t.slots.Load().all)
	if t.used < size/4*3 {
		return nil
	}
	if t.gone > size/4 {
		return t.resize(size) // the same room, without those that went
	}
	return t.resize(2 * size)
}

// resize copies what there is into other memory. Readers go on in the old one until the new one is whole; from then on
// only that is written.
func (t *Table) resize(size int) error {
	old := t.slots.Load()
	need := int64(size) * slotBytes
	if old != nil && t.Bytes()+need > t.limit || need > t.limit { // both are there for a moment
		return ErrFull
	}
	all, err := allocate(size)
	if err != nil {
		return err
	}
	next := &slots{all: all}
	runtime.AddCleanup(next, release, all)
	t.used, t.gone = 0, 0
	if old != nil {
		next.spilled.Store(old.spilled.Load())
		for i := range old.all {
			if kind := kindOf(old.all[i][0]); kind == kindKey || kind == kindElsewhere {
				next.place(&old.all[i])
				t.used++
			}
		}
	}
	t.slots.Store(next)
	return nil
}

// place is for slots that nobody reads yet: they are written as any memory is.
func (s *slots) place(words *slot) {
	home := s.home(prefix{words[1], words[2]})
	at := home
	for reach := range maxProbes {
		if kindOf(s.all[at][0]) == kindEmpty {
			s.all[at] = *words // an empty slot has no reach of its own: what belongs there first would be in it
			s.all[at][0] &^= reachMask | versionMask
			if first := &s.all[home][0]; reachOf(*first) < reach {
				*first = uint64(reach)<<reachShift | *first&^reachMask
			}
			return
		}
		at = s.next(at)
	}
	s.spilled.Store(true)
}
