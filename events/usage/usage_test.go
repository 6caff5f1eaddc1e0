package usage_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/events/usage"
)

func batch() usage.Batch {
	return usage.Batch{
		Incarnation: events.Incarnation{1}, Seq: 300, Run: usage.Run{2}, Number: 3,
		Counts: []usage.Count{{Key: events.KeyID{4}, Uses: 1, Last: 1_800_000_000_000}, {Key: events.KeyID{5}, Uses: 70_000, Last: 1}},
	}
}

// Every batch ever written is to be read on: these bytes must not change.
func TestTheFormStays(t *testing.T) {
	b := batch()
	data, err := b.Encode()
	require.NoError(t, err)
	require.Equal(t, "9601c41001000000000000000000000000000000cd012cc410020000000000000000000000000000000392"+
		"93c4100400000000000000000000000000000001cf000001a3185c5000"+
		"93c41005000000000000000000000000000000ce0001117001", hex.EncodeToString(data))
	read, err := usage.Decode(data)
	require.NoError(t, err)
	require.Equal(t, b, read)
}

func TestABatchFitsIn(t *testing.T) {
	b := batch()
	b.Counts = make([]usage.Count, usage.MaxCounts)
	for i := range b.Counts {
		b.Counts[i] = usage.Count{Key: events.KeyID{byte(i >> 8), byte(i)}, Uses: usage.MaxUses, Last: math.MaxInt64}
	}
	data, err := b.Encode()
	require.NoError(t, err)
	require.LessOrEqual(t, len(data), usage.MaxBytes)
	_, err = usage.Decode(data)
	require.NoError(t, err)
}

func TestHostileBatchesAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*usage.Batch){
		"no log":                func(b *usage.Batch) { b.Incarnation = events.Incarnation{} },
		"no Seq":                func(b *usage.Batch) { b.Seq = 0 },
		"no run":                func(b *usage.Batch) { b.Run = usage.Run{} },
		"no number":             func(b *usage.Batch) { b.Number = 0 },
		"no counts":             func(b *usage.Batch) { b.Counts = nil },
		"a key twice":           func(b *usage.Batch) { b.Counts[1].Key = b.Counts[0].Key },
		"out of order":          func(b *usage.Batch) { b.Counts[1].Key = events.KeyID{} },
		"no uses":               func(b *usage.Batch) { b.Counts[0].Uses = 0 },
		"uses without end":      func(b *usage.Batch) { b.Counts[0].Uses = math.MaxUint64 },
		"before there was time": func(b *usage.Batch) { b.Counts[0].Last = -1 },
		"too many":              func(b *usage.Batch) { b.Counts = make([]usage.Count, usage.MaxCounts+1) },
	} {
		b := batch()
		spoil(&b)
		data, err := b.Encode()
		require.NoError(t, err)
		_, err = usage.Decode(data)
		require.ErrorIs(t, err, events.ErrMalformed, name)
	}
	b := batch()
	whole, err := b.Encode()
	require.NoError(t, err)
	for n := range whole {
		_, err := usage.Decode(whole[:n])
		require.ErrorIs(t, err, events.ErrMalformed, "%d bytes of it", n)
	}
	for name, data := range map[string][]byte{
		"something behind it":    append(bytes.Clone(whole), 0),
		"a list without its end": {0x96, 1, 0xc0, 1, 0xc0, 1, 0xdd, 0xff, 0xff, 0xff, 0xff},
		"another version":        append([]byte{0x96, 2}, whole[2:]...),
		"longer numbers":         bytes.Replace(whole, []byte{0xcd, 0x01, 0x2c}, []byte{0xce, 0, 0, 0x01, 0x2c}, 1),
		"a map":                  {0x80},
		"too long":               make([]byte, usage.MaxBytes+1),
	} {
		_, err := usage.Decode(data)
		require.ErrorIs(t, err, events.ErrMalformed, name)
	}
}

func FuzzDecode(f *testing.F) {
	b := batch()
	data, err := b.Encode()
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte{0x96, 1, 0xc0, 1, 0xc0, 1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var b usage.Batch
		var err error
		fuzztest.Frugally(t, len(data), fuzztest.Msgpack, func() { b, err = usage.Decode(data) })
		if err != nil {
			require.ErrorIs(t, err, events.ErrMalformed)
			return
		}
		again, err := b.Encode()
		require.NoError(t, err)
		require.Equal(t, data, again)
	})
}
