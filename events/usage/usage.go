// Package usage is what verifiers tell of how often keys were let in: batches of counts, in a stream beside the log.
//
// It promises that a batch has one byte string and a byte string one batch, and that reading one takes memory in proportion to its
// size. It leaves counting to package verifier and adding up to projections/catalog. Counts are no evidence: what a verifier that
// is killed had not reported yet is lost, and the stream forgets.
package usage

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/events"
)

// Where batches are sent and kept. They are part of the public contract; the verifier's name follows the Subject.
const (
	StreamName = "KEYFLEET_USAGE"
	Subject    = "keyfleet.usage."
)

// What a batch has room for.
const (
	MaxCounts = 4096    // keys, so that nothing else waits long while they are added up
	MaxUses   = 1 << 40 // of a key, so that sums do not overflow
	MaxBytes  = 256 << 10
)

// Run is one run of a verifier, from start to stop.
type Run [16]byte

// Batch is how often keys were let in since the batch before it. Whoever reads it again knows it by Run and Number.
type Batch struct {
	Incarnation events.Incarnation // of the log, and
	Seq         events.Seq         // how far the verifier had applied it: all keys of the batch are in it
	Run         Run
	Number      uint64  // from 1
	Counts      []Count // by key, each once
}

// Count is how often a key was let in.
type Count struct {
	Key  events.KeyID
	Uses uint64
	Last events.Instant // when it was let in last, by the verifier's clock
}

// wire and wireCount are a Batch in msgpack: arrays of fixed length.
type wire struct {
	Version     int
	Incarnation [16]byte
	Seq         uint64
	Run         [16]byte
	Number      uint64
	Counts      []wireCount
}

type wireCount struct {
	Key  [16]byte
	Uses uint64
	Last int64
}

const version = 1

// Encode writes a batch.
func (b *Batch) Encode() ([]byte, error) {
	w := wire{version, b.Incarnation, uint64(b.Seq), b.Run, b.Number, make([]wireCount, len(b.Counts))}
	for i, c := range b.Counts {
		w.Counts[i] = wireCount{c.Key, c.Uses, int64(c.Last)}
	}
	var out bytes.Buffer
	enc := msgpack.NewEncoder(&out)
	enc.UseArrayEncodedStructs(true)
	enc.UseCompactInts(true)
	if err := enc.Encode(&w); err != nil {
		return nil, fmt.Errorf("encode a batch of uses: %w", err)
	}
	return out.Bytes(), nil
}

// Decode reads what Encode writes, and nothing else. Errors wrap events.ErrMalformed.
func Decode(data []byte) (Batch, error) {
	if len(data) > MaxBytes {
		return Batch{}, fmt.Errorf("%w: a batch of uses has at most %d bytes, not %d", events.ErrMalformed, MaxBytes, len(data))
	}
	// The decoder makes room for as many elements as a list announces: they have to be there first.
	if err := msgpack.NewDecoder(bytes.NewReader(data)).Skip(); err != nil {
		return Batch{}, fmt.Errorf("%w: %w", events.ErrMalformed, err)
	}
	var w wire
	if err := msgpack.Unmarshal(data, &w); err != nil {
		return Batch{}, fmt.Errorf("%w: %w", events.ErrMalformed, err)
	}
	b := Batch{w.Incarnation, events.Seq(w.Seq), w.Run, w.Number, make([]Count, len(w.Counts))}
	for i, c := range w.Counts {
		b.Counts[i] = Count{c.Key, c.Uses, events.Instant(c.Last)}
	}
	if err := b.check(); err != nil {
		return Batch{}, err
	}
	if again, err := b.Encode(); err != nil || !bytes.Equal(again, data) {
		return Batch{}, fmt.Errorf("%w: a batch of uses is written in another way", events.ErrMalformed)
	}
	return b, nil
}

func (b *Batch) check() error {
	if b.Incarnation.IsZero() || b.Seq == 0 || b.Run == (Run{}) || b.Number == 0 {
		return fmt.Errorf("%w: a batch of uses without log, Seq, run or number", events.ErrMalformed)
	}
	if len(b.Counts) == 0 || len(b.Counts) > MaxCounts {
		return fmt.Errorf("%w: a batch has 1 to %d counts, not %d", events.ErrMalformed, MaxCounts, len(b.Counts))
	}
	for i, c := range b.Counts {
		switch {
		case i > 0 && bytes.Compare(b.Counts[i-1].Key[:], c.Key[:]) >= 0:
			return fmt.Errorf("%w: the counts of a batch stand by key, each once", events.ErrMalformed)
		case c.Uses == 0 || c.Uses > MaxUses || c.Last <= 0:
			return fmt.Errorf("%w: %d uses of %s, the last at %d", events.ErrMalformed, c.Uses, c.Key, c.Last)
		}
	}
	return nil
}
