package events

import (
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// msgpack can write most values in several ways. Only the shortest, which encoders emit, is taken: one event has
// one byte string, and so one leaf.

func (r *reader) shortest(found, want byte) {
	if found != want {
		r.fail("a value is not in its shortest form: code %#x instead of %#x", found, want)
	}
}

func uintCode(n uint64) byte {
	switch {
	case n <= uint64(msgpcode.PosFixedNumHigh):
		return byte(n)
	case n <= math.MaxUint8:
		return msgpcode.Uint8
	case n <= math.MaxUint16:
		return msgpcode.Uint16
	case n <= math.MaxUint32:
		return msgpcode.Uint32
	default:
		return msgpcode.Uint64
	}
}

func intCode(n int64) byte {
	switch {
	case n >= 0:
		return uintCode(uint64(n))
	case n >= -32:
		return byte(n)
	case n >= math.MinInt8:
		return msgpcode.Int8
	case n >= math.MinInt16:
		return msgpcode.Int16
	case n >= math.MinInt32:
		return msgpcode.Int32
	default:
		return msgpcode.Int64
	}
}

// lengthCode is the code before n values or bytes: fixed with the length in it up to mostFixed, then those with a length
// of 8 (0: there is none), 16 or 32 bits.
func lengthCode(n, mostFixed int, fixed, code8, code16, code32 byte) byte {
	switch {
	case n <= mostFixed:
		return fixed | byte(n)
	case n <= math.MaxUint8 && code8 != 0:
		return code8
	case n <= math.MaxUint16:
		return code16
	default:
		return code32
	}
}
