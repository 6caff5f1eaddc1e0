package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/keyfleet/keyfleet/events"
)

// Root is the hash of a tree: RFC 6962, 2.1, with SHA-256.
type Root [sha256.Size]byte

func (r Root) String() string { return hex.EncodeToString(r[:]) }

// MarshalText gives hexadecimal digits.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Frontier is a tree reduced to what further leaves need: the roots of the perfect trees that it falls into, the largest
// first. The zero Frontier is the empty tree. Copies go their own ways.
type Frontier struct {
	size  uint64
	roots [64]Root // the first OnesCount64(size) of them
}

// Size is the number of leaves.
func (f *Frontier) Size() uint64 { return f.size }

// Add appends a leaf.
func (f *Frontier) Add(leaf []byte) { f.add(leafHash(leaf), func(int, Root) {}) }

// add appends the leaf of that hash, and shows the root of each perfect tree that it completes, by the tree's height.
func (f *Frontier) add(root Root, completed func(height int, root Root)) {
	n := bits.OnesCount64(f.size)
	height := 0
	completed(height, root)
	// Each perfect tree of the same size as the newest is joined with it, as a carry is when one is added.
	for s := f.size; s&1 == 1; s >>= 1 {
		n--
		root = nodeHash(f.roots[n], root)
		f.roots[n] = Root{} // equal trees are equal values
		height++
		completed(height, root)
	}
	f.roots[n] = root
	f.size++
}

// Root is that of the whole tree; of an empty one, the hash of nothing.
func (f *Frontier) Root() Root {
	n := bits.OnesCount64(f.size)
	if n == 0 {
		return sha256.Sum256(nil)
	}
	root := f.roots[n-1]
	for i := n - 2; i >= 0; i-- {
		root = nodeHash(f.roots[i], root)
	}
	return root
}

func leafHash(leaf []byte) Root {
	var room [512]byte // most events fit
	return sha256.Sum256(append(append(room[:0], 0), leaf...))
}

func nodeHash(left, right Root) Root {
	var both [1 + 2*sha256.Size]byte
	both[0] = 1
	copy(both[1:], left[:])
	copy(both[1+sha256.Size:], right[:])
	return sha256.Sum256(both[:])
}

// MarshalBinary gives the size, big endian, and the roots.
func (f *Frontier) MarshalBinary() ([]byte, error) {
	n := bits.OnesCount64(f.size)
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+n*sha256.Size), f.size)
	for _, root := range f.roots[:n] {
		b = append(b, root[:]...)
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary gives. Errors wrap events.ErrMalformed.
func (f *Frontier) UnmarshalBinary(data []byte) error {
	if len(data) < 8 {
		return fmt.Errorf("%w: a tree of %d bytes", events.ErrMalformed, len(data))
	}
	read := Frontier{size: binary.BigEndian.Uint64(data)}
	data = data[8:]
	n := bits.OnesCount64(read.size)
	if len(data) != n*sha256.Size {
		return fmt.Errorf("%w: a tree of %d leaves has %d roots, not %d bytes", events.ErrMalformed, read.size, n, len(data))
	}
	for i := range n {
		copy(read.roots[i][:], data[i*sha256.Size:])
	}
	*f = read
	return nil
}
