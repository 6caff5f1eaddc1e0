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

// form is how a value begins that has a length: with the length in the code up to mostFixed, else with one of the codes
// before a length of 8 (0: there is none), 16 or 32 bits.
type form struct {
	what                  string
	fixed                 byte
	mostFixed             int
	code8, code16, code32 byte
}

var (
	arrays      = form{"an array", msgpcode.FixedArrayLow, 15, 0, msgpcode.Array16, msgpcode.Array32}
	texts       = form{"a text", msgpcode.FixedStrLow, 31, msgpcode.Str8, msgpcode.Str16, msgpcode.Str32}
	byteStrings = form{"a byte string", 0, -1, msgpcode.Bin8, msgpcode.Bin16, msgpcode.Bin32}
)

// fixes reports whether the code has the length in it.
func (f *form) fixes(code byte) bool {
	return code >= f.fixed && int(code-f.fixed) <= f.mostFixed
}

// code is the one before a value of that length.
func (f *form) code(n int) byte {
	switch {
	case n <= f.mostFixed:
		return f.fixed | byte(n)
	case n <= math.MaxUint8 && f.code8 != 0:
		return f.code8
	case n <= math.MaxUint16:
		return f.code16
	default:
		return f.code32
	}
}
