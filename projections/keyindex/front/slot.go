package front

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/keyfleet/keyfleet/events"
)

// Entry is what a slot says of the key that a digest leads to.
type Entry struct {
	Key         events.KeyID
	Project     uint32 // as the caller numbers projects; below MaxProjects
	Disabled    bool
	Expired     bool
	ExpiresAt   events.Instant
	Deployments [MaxDeployments]uint16 // as the caller numbers deployments, from 1; 0 is none
}

// What an entry has room for.
const (
	MaxDeployments = 8
	MaxProjects    = 1 << 20
)

// A slot is eight words: meta, the first 16 bytes of the digest, the key's id, the expiry, the deployments.
const (
	slotWords = 8
	slotBytes = 8 * slotWords
)

// meta has the version in its lowest bits, odd while the slot is written, and then what the slot is. Its highest bits are not of
// what is in the slot, but of all that is looked for from here first: how many slots on the last of it is.
const (
	versionBits = 24
	versionMask = 1<<versionBits - 1

	kindShift     = versionBits
	kindMask      = 3
	disabledBit   = 1 << 26
	expiredBit    = 1 << 27
	projectShift  = 32
	projectMask   = MaxProjects - 1
	reachShift    = 52
	reachMask     = (1<<64 - 1) &^ (1<<reachShift - 1)
	kindEmpty     = 0 // nothing was ever here: what is looked for is not behind it either
	kindGone      = 1 // something was
	kindKey       = 2
	kindElsewhere = 3 // the index has to be asked
)

type slot = [slotWords]uint64

func kindOf(meta uint64) uint64 { return meta >> kindShift & kindMask }
func reachOf(meta uint64) int   { return int(meta >> reachShift) }

// read copies a slot as it was at one moment. It reports false while the slot is being written.
func read(s *slot, words *slot) bool {
	words[0] = atomic.LoadUint64(&s[0])
	if words[0]&1 != 0 {
		return false
	}
	for i := 1; i < slotWords; i++ {
		words[i] = atomic.LoadUint64(&s[i])
	}
	return atomic.LoadUint64(&s[0]) == words[0]
}

// write replaces what is in a slot. There is one writer.
func write(s *slot, words *slot) {
	before := s[0]
	atomic.StoreUint64(&s[0], before|1)
	for i := 1; i < slotWords; i++ {
		atomic.StoreUint64(&s[i], words[i])
	}
	atomic.StoreUint64(&s[0], before&reachMask|words[0]&^(reachMask|versionMask)|next(before))
}

// stretch says that something that is looked for here first is so many slots on.
func stretch(s *slot, reach int) {
	if before := s[0]; reachOf(before) < reach {
		atomic.StoreUint64(&s[0], uint64(reach)<<reachShift|before&^(reachMask|versionMask)|next(before))
	}
}

// next is the version behind that of a slot.
func next(meta uint64) uint64 { return ((meta&versionMask | 1) + 1) & versionMask }

// prefix is what slots know of a digest.
type prefix [2]uint64

func prefixOf(d *events.Digest) prefix {
	return prefix{binary.BigEndian.Uint64(d[:8]), binary.BigEndian.Uint64(d[8:16])}
}

func (e *Entry) words(p prefix) (w slot) {
	w[0] = kindKey<<kindShift | uint64(e.Project)<<projectShift
	if e.Disabled {
		w[0] |= disabledBit
	}
	if e.Expired {
		w[0] |= expiredBit
	}
	w[1], w[2] = p[0], p[1]
	w[3], w[4] = binary.BigEndian.Uint64(e.Key[:8]), binary.BigEndian.Uint64(e.Key[8:])
	w[5] = uint64(e.ExpiresAt)
	for i, d := range e.Deployments {
		w[6+i/4] |= uint64(d) << (16 * (i % 4))
	}
	return w
}

func (e *Entry) read(w *slot) {
	e.Project = uint32(w[0] >> projectShift & projectMask)
	e.Disabled, e.Expired = w[0]&disabledBit != 0, w[0]&expiredBit != 0
	binary.BigEndian.PutUint64(e.Key[:8], w[3])
	binary.BigEndian.PutUint64(e.Key[8:], w[4])
	e.ExpiresAt = events.Instant(w[5])
	for i := range e.Deployments {
		e.Deployments[i] = uint16(w[6+i/4] >> (16 * (i % 4)))
	}
}
