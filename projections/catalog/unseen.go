package catalog

import (
	"errors"
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// unseen knows of most ids, names, digests and command ids that nothing stands under: what new commands ask for. Pebble
// takes microseconds to find nothing, and a command asks four times. What was stored before Open is taken in beside everything
// else; until that is done nothing counts as unseen. Only the writer may use it, but for takeIn.
type unseen struct {
	seed   maphash.Seed
	recent filter // of what was put since Open, committed or not
	stored atomic.Pointer[filter]
}

func newUnseen() *unseen { return &unseen{seed: maphash.MakeSeed(), recent: newFilter(0)} }

// asked are the spaces in which commands look for what is not there yet.
var asked = [256]bool{keySpace: true, keyNameSpace: true, digestSpace: true, commandSpace: true}

// put has to be told of every key before it is written.
func (u *unseen) put(key []byte) {
	if asked[key[0]] {
		u.recent.add(maphash.Bytes(u.seed, key))
	}
}

// has reports whether surely nothing was ever put under key.
func (u *unseen) has(key []byte) bool {
	stored := u.stored.Load()
	if stored == nil || !asked[key[0]] {
		return false
	}
	h := maphash.Bytes(u.seed, key)
	return !u.recent.mayHave(h) && !stored.mayHave(h)
}

var errStopped = errors.New("stopped")

// takeIn reads what is stored, unless stop ends first. What is put meanwhile may be missed.
func (u *unseen) takeIn(db pebble.Reader, stop <-chan struct{}) error {
	v := View{r: db}
	projects, err := v.Projects()
	if err != nil {
		return err
	}
	keys := 0
	for _, p := range projects {
		keys += p.Keys
	}
	f := newFilter(4 * keys) // an id, a name, a digest and a command each
	for space, is := range asked {
		if !is {
			continue
		}
		err := v.scan([]byte{byte(space)}, func(key, _ []byte) (bool, error) {
			select {
			case <-stop:
				return false, errStopped
			default:
				f.add(maphash.Bytes(u.seed, key))
				return true, nil
			}
		})
		if err != nil {
			return err
		}
	}
	u.stored.Store(&f)
	return nil
}

// filter is a Bloom filter of hashes, a word for each four of them. Full, it goes on in another one of twice the size.
type filter struct {
	layers [][]uint64
	room   int // in the last layer
}

const (
	perWord  = 4
	smallest = 1 << 17 // words
)

func newFilter(room int) filter {
	words := max(smallest, room/perWord)
	return filter{layers: [][]uint64{make([]uint64, words)}, room: words * perWord}
}

func (f *filter) add(hash uint64) {
	last := f.layers[len(f.layers)-1]
	if f.room == 0 {
		last = make([]uint64, 2*len(last))
		f.layers, f.room = append(f.layers, last), len(last)*perWord
	}
	at, mask := place(hash, len(last))
	last[at] |= mask
	f.room--
}

func (f *filter) mayHave(hash uint64) bool {
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
