package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Writes are changes that a Commit will make together. Keys are not empty: the first byte says what kind of thing stands there.
type Writes struct {
	text []byte // keys and values, one behind the other: nothing in it for the collector to follow
	all  []write
}

// write is one change.
type write struct {
	at         int // in text: the key, and behind it the value
	key, value int // their lengths
	kind       kind
}

type kind uint8

const (
	set kind = iota
	gone
	goneRange
)

// NewWrites has room for so many changes of about so many bytes in all. It can be outgrown.
func NewWrites(changes, bytes int) Writes {
	return Writes{text: make([]byte, 0, bytes), all: make([]write, 0, changes)}
}

// Set puts value under key.
func (w *Writes) Set(key, value []byte) { w.add(set, key, value) }

// Delete removes what stands under key.
func (w *Writes) Delete(key []byte) { w.add(gone, key, nil) }

// DeleteRange removes all from one key on, to before another.
func (w *Writes) DeleteRange(from, to []byte) { w.add(goneRange, from, to) }

func (w *Writes) add(k kind, key, value []byte) {
	w.all = append(w.all, write{len(w.text), len(key), len(value), k})
	w.text = append(append(w.text, key...), value...)
}

// Size is how many bytes the changes take, about as many as in the database.
func (w *Writes) Size() int { return len(w.text) }

// Reset makes it empty. The memory stays.
func (w *Writes) Reset() { w.text, w.all = w.text[:0], w.all[:0] }

func (w *Writes) key(at int) []byte {
	one := &w.all[at]
	return w.text[one.at:][:one.key]
}

func (w *Writes) value(at int) []byte {
	one := &w.all[at]
	return w.text[one.at+one.key:][:one.value]
}

// Commit makes all changes, of which later ones count, or none. They go to Pebble in the order of their keys, unless ranges are
// among them: it makes a table of a large batch, and takes long to sort it.
func (db *DB) Commit(changes ...*Writes) (err error) {
	const header = 16 // of a batch, and at most of a change
	size := header
	for _, w := range changes {
		size += len(w.text) + header*len(w.all)
	}
	b := db.NewBatchWithSize(size)
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, p := range inOrder(changes) {
		w, at := changes[p.of], int(p.at)
		switch w.all[at].kind {
		case set:
			err = b.Set(w.key(at), w.value(at), nil)
		case gone:
			err = b.Delete(w.key(at), nil)
		case goneRange:
			err = b.DeleteRange(w.key(at), w.value(at), nil)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(pebble.NoSync)
}

// place is where a change stands, with as much of its key as tells most of them apart.
type place struct {
	prefix uint64
	of, at int32
}

// inOrder gives the changes' places in the order in which they are to be made.
func inOrder(changes []*Writes) []place {
	n := 0
	for _, w := range changes {
		n += len(w.all)
	}
	places := make([]place, 0, n)
	common := commonParts(changes)
	ranges := false
	for of, w := range changes {
		for at := range w.all {
			key := w.key(at)
			var prefix [8]byte
			copy(prefix[1:], key[common[key[0]]:])
			prefix[0] = key[0]
			places = append(places, place{binary.BigEndian.Uint64(prefix[:]), int32(of), int32(at)})
			ranges = ranges || w.all[at].kind == goneRange
		}
	}
	if ranges {
		return places
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return cmp.Or(bytes.Compare(changes[a.of].key(int(a.at)), changes[b.of].key(int(b.at))), cmp.Compare(a.of, b.of), cmp.Compare(a.at, b.at))
	})
	return places
}

// commonParts says how long the part is that all keys with the same first byte share.
func commonParts(changes []*Writes) (common [256]int) {
	var first [256][]byte
	for _, w := range changes {
		for at := range w.all {
			key := w.key(at)
			space := key[0]
			if first[space] == nil {
				first[space], common[space] = key, len(key)
			}
			for !bytes.HasPrefix(key, first[space][:common[space]]) {
				common[space]--
			}
		}
	}
	return common
}
