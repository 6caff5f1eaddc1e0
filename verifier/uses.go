package verifier

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex/front"
)

// uses counts how often each key was let in. Checks add to it side by side, without a lock and without memory of their own; one
// goroutine takes what was counted.
type uses struct {
	counting atomic.Pointer[window]
	resting  *window       // was counted in before; checks that began then have added what they had by the next take
	missed   atomic.Uint64 // uses of keys that found no room
}

// A window has room for some 100,000 keys.
const (
	windowUses = 1 << 17
	maxTries   = 16 // places that a key may have
)

type window [windowUses]use

type use struct {
	key   [2]atomic.Uint64 // zeroes: free
	count atomic.Uint64
	last  atomic.Int64
}

func newUses() *uses {
	u := &uses{resting: new(window)}
	u.counting.Store(new(window))
	return u
}

// expect says where to add what the digest's key may come to, and that the memory there is about to be needed: to wait for it would
// take as long as all the rest of a check. A key with two secrets has two places.
func (u *uses) expect(digest *events.Digest) (home uint64) {
	home = binary.BigEndian.Uint64(digest[:8]) % windowUses
	front.Prefetch(unsafe.Pointer(&u.counting.Load()[home]))
	return home
}

// add counts one use, at or behind the place that is its home.
func (u *uses) add(key events.KeyID, home uint64, at events.Instant) {
	first, second := binary.BigEndian.Uint64(key[:8]), binary.BigEndian.Uint64(key[8:])
	w := u.counting.Load()
	for i := range uint64(maxTries) {
		s := &w[(home+i)%windowUses]
		if s.isOf(first, second) {
			s.count.Add(1)
			if s.last.Load() < int64(at) {
				s.last.Store(int64(at))
			}
			return
		}
	}
	u.missed.Add(1)
}

// isOf takes the place if it is free. Of two that begin to count a key at once, one may not see all of it yet, and takes
// another place: the key then has two.
func (s *use) isOf(first, second uint64) bool {
	switch have := s.key[0].Load(); {
	case have == first:
		return s.key[1].Load() == second
	case have == 0 && s.key[0].CompareAndSwap(0, first):
		s.key[1].Store(second)
		return true
	default:
		return false
	}
}

// take gives what was counted before the last take, and has what is counted from now on stand elsewhere. A key may be given twice.
func (u *uses) take(give func(key events.KeyID, count uint64, last events.Instant)) {
	w := u.resting
	for i := range w {
		s := &w[i]
		if s.key[0].Load() == 0 {
			continue
		}
		var key events.KeyID
		binary.BigEndian.PutUint64(key[:8], s.key[0].Load())
		binary.BigEndian.PutUint64(key[8:], s.key[1].Load())
		give(key, s.count.Swap(0), events.Instant(s.last.Load()))
		s.key[0].Store(0)
		s.key[1].Store(0)
		s.last.Store(0)
	}
	u.resting = u.counting.Swap(w)
}
