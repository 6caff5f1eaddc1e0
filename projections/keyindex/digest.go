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
type recordSum struct {
	words   [4]uint64
	scratch []byte
}

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

func (s *recordSum) add(key, value []byte) {
	record := s.record(key, value)
	s.addAll(&record)
}

func (s *recordSum) addAll(other *recordSum) {
	var carry uint64
	for i := range s.words {
		s.words[i], carry = bits.Add64(s.words[i], other.words[i], carry)
	}
}

func (s *recordSum) subtract(key, value []byte) {
	record := s.record(key, value)
	var borrow uint64
	for i := range s.words {
		s.words[i], borrow = bits.Sub64(s.words[i], record.words[i], borrow)
	}
}

// record is the sum of one record. The lengths keep key and value apart.
func (s *recordSum) record(key, value []byte) recordSum {
	if s.scratch == nil {
		s.scratch = make([]byte, 0, 512) // of most keys
	}
	b := binary.AppendUvarint(s.scratch[:0], uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(len(value)))
	s.scratch = append(b, value...)
	return sumOf(sha256.Sum256(s.scratch))
}
