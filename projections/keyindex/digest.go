package keyindex

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/keyfleet/keyfleet/events"
)

// DigestVersion changes with what a digest is taken over. Only digests of one version can be compared.
const DigestVersion = 1

// recordSum is the digest of an index as a number: the sum modulo 2^256 of the SHA-256 of its records, lowest word
// first. Records come and go in any order, one at a time, so that it costs what changes and not what is there. Equal
// sums mean equal records where damage and faults are feared; it is no proof against an author of records.
type recordSum struct{ words [4]uint64 }

func sumOf(d events.Digest) recordSum {
	var s recordSum
	for i := range s.words {
		s.words[i] = binary.LittleEndian.Uint64(d[8*i:])
	}
	return s
}

func (s *recordSum) digest() (d events.Digest) {
	for i, word := range s.words {
		binary.LittleEndian.PutUint64(d[8*i:], word)
	}
	return d
}

// add counts a record in, as appendRecord lays it out.
func (s *recordSum) add(record []byte) {
	one := sumOf(sha256.Sum256(record))
	s.addAll(&one)
}

func (s *recordSum) addAll(other *recordSum) {
	var carry uint64
	for i := range s.words {
		s.words[i], carry = bits.Add64(s.words[i], other.words[i], carry)
	}
}

// subtract takes a record out again.
func (s *recordSum) subtract(record []byte) {
	one := sumOf(sha256.Sum256(record))
	var borrow uint64
	for i := range s.words {
		s.words[i], borrow = bits.Sub64(s.words[i], one.words[i], borrow)
	}
}

// appendRecord lays a record out as digests take it. The lengths keep key and value apart.
func appendRecord(b, key, value []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}
