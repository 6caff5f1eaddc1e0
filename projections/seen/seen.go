// Package seen remembers, in two bytes for each, what it was shown, so that most of what it was not shown need not be looked for.
//
// It promises that nothing it was shown is ever taken for unseen. It leaves to its callers to show it everything, and to begin
// another one when most of what was shown is gone: it never forgets.
package seen

import (
	"hash/maphash"
	"math/bits"
)

// Filter is a Bloom filter, a word for each four keys. Full, it goes on in another one of twice the size. Writers and readers
// have to take turns.
type Filter struct {
	seed   maphash.Seed
	layers [][]uint64
	room   int // in the last layer
}

const (
	perWord  = 4
	smallest = 1 << 19 // words: 4 MiB. Each layer more is one more miss of the cache
)

// New makes a filter with room for so many keys, or some more.
func New(room int) *Filter { return ofWords(max(smallest, room/perWord)) }

func ofWords(words int) *Filter {
	return &Filter{seed: maphash.MakeSeed(), layers: [][]uint64{make([]uint64, words)}, room: words * perWord}
}

// Add shows it a key. Another time makes no difference.
func (f *Filter) Add(key []byte) {
	hash := maphash.Bytes(f.seed, key)
	if f.mayHave(hash) {
		return
	}
	last := f.layers[len(f.layers)-1]
	if f.room == 0 {
		last = make([]uint64, 2*len(last))
		f.layers, f.room = append(f.layers, last), len(last)*perWord
	}
	at, mask := place(hash, len(last))
	last[at] |= mask
	f.room--
}

// Len is about how many keys it was shown, each counted once.
func (f *Filter) Len() int {
	words := 0
	for _, layer := range f.layers {
		words += len(layer)
	}
	return words*perWord - f.room
}

// MayHave reports whether the key was shown to it; in a few of a hundred cases it errs, and says yes.
func (f *Filter) MayHave(key []byte) bool { return f.mayHave(maphash.Bytes(f.seed, key)) }

func (f *Filter) mayHave(hash uint64) bool {
	for _, words := range f.layers {
		if at, mask := place(hash, len(words)); words[at]&mask == mask {
			return true
		}
	}
	return false
}

// place gives the one word that a hash has to do with, by its upper bits, and four bits there, by its lower.
func place(hash uint64, words int) (at uint64, mask uint64) {
	at, _ = bits.Mul64(hash, uint64(words))
	for range 4 {
		mask |= 1 << (hash & 63)
		hash >>= 6
	}
	return at, mask
}
