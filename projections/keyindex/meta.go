package keyindex

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

const (
	positionForm = 2
	charterForm  = 1
)

// encodePosition puts the digest with the position that it belongs to.
func encodePosition(p events.Position, digest events.Digest) []byte {
	b := slices.Concat([]byte{positionForm}, p.Incarnation[:], p.Chain[:])
	for _, n := range []uint64{uint64(p.Seq), p.Term, uint64(p.Time), p.StreamSeq} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(append(b, DigestVersion), digest[:]...)
}

func decodePosition(data []byte) (p events.Position, digest events.Digest, err error) {
	r := reader{rest: data}
	r.version(positionForm)
	r.fill(p.Incarnation[:])
	r.fill(p.Chain[:])
	p.Seq, p.Term = events.Seq(r.uint64()), r.uint64()
	p.Time, p.StreamSeq = events.Instant(r.uint64()), r.uint64()
	if v := r.byte(); v != DigestVersion {
		r.fail("its digest is of version %d, this binary counts version %d", v, DigestVersion)
	}
	r.fill(digest[:])
	return p, digest, r.end()
}

// encodeCharter sorts what maps hold, so that equal charters are equal bytes. It changes seldom and no
// check reads it, so that msgpack, which follows the fields that a charter has, is quick enough.
func encodeCharter(c *projections.Charter) ([]byte, error) {
	members := slices.SortedFunc(maps.Values(c.Members), func(a, b projections.Member) int {
		return bytes.Compare(a.Instance[:], b.Instance[:])
	})
	rest := *c
	rest.Members = nil
	buf := bytes.NewBuffer([]byte{charterForm})
	enc := msgpack.NewEncoder(buf)
	enc.SetSortMapKeys(true)
	if err := enc.EncodeMulti(&rest, members); err != nil {
		return nil, fmt.Errorf("encode charter: %w", err)
	}
	return buf.Bytes(), nil
}

func decodeCharter(data []byte) (projections.Charter, error) {
	var c projections.Charter
	var members []projections.Member
	r := reader{rest: data}
	r.version(charterForm)
	if r.err != nil {
		return c, r.err
	}
	err := walk(r.rest, 2)
	if err == nil {
		err = msgpack.NewDecoder(bytes.NewReader(r.rest)).DecodeMulti(&c, &members)
	}
	if err != nil {
		return projections.Charter{}, fmt.Errorf("%w: charter: %w", errRecord, err)
	}
	if len(members) > 0 {
		c.Members = map[events.InstanceID]projections.Member{}
	}
	for _, m := range members {
		c.Members[m.Instance] = m
	}
	return c, nil
}

// walk passes over n values. The decoder makes room for as many elements as a list announces; behind a walk it is
// known that they are there.
func walk(data []byte, n int) error {
	dec := msgpack.NewDecoder(bytes.NewReader(data))
	for range n {
		if err := dec.Skip(); err != nil {
			return err
		}
	}
	return nil
}
