package events

import (
	"fmt"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// reader decodes strictly: the exact array lengths and value kinds that writer emits, nothing
// behind them. Lengths are held against what is left of the input before anything is allocated;
// byte strings are slices of the input. It reads from a slice, since every replay of a log waits
// for it: a decoder that takes any stream is five times as slow.
type reader struct {
	data []byte
	at   int // how much of it is read
	err  error

	// Of the events of one commit, which live as long as each other.
	behind  int            // how many are still to be read
	project string         // the last one's: most are the next one's, too
	room    []DeploymentID // for what they name
}

func newReader(data []byte) *reader { return &reader{data: data} }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: at byte %d: %s", ErrMalformed, r.at, fmt.Sprintf(format, args...))
	}
}

func (r *reader) left() int { return len(r.data) - r.at }

// neverUsed is a code that stands before no value.
const neverUsed = 0xc1

// peek gives the code of the next value, neverUsed once an error stands.
func (r *reader) peek() byte {
	if r.err != nil {
		return neverUsed
	}
	if r.left() == 0 {
		r.fail("it ends too early")
		return neverUsed
	}
	return r.data[r.at]
}

// argument skips the code and reads the number of that many bytes behind it.
func (r *reader) argument(width int) (n uint64) {
	r.at++
	for _, b := range r.take(width) {
		n = n<<8 | uint64(b)
	}
	return n
}

// take gives the next n bytes, as a part of the input.
func (r *reader) take(n int) []byte {
	if n > r.left() {
		r.fail("%d bytes are announced, %d are left", n, r.left())
		return nil
	}
	r.at += n
	return r.data[r.at-n : r.at : r.at]
}

func (r *reader) isNil() bool {
	if r.peek() != msgpcode.Nil {
		return false
	}
	r.at++
	return true
}

// length reads how long the next value is, which is of that form.
func (r *reader) length(f *form) (n int) {
	code := r.peek()
	switch {
	case f.fixes(code):
		r.at++
		return int(code - f.fixed)
	case code == f.code8 && f.code8 != 0:
		n = int(r.argument(1))
	case code == f.code16:
		n = int(r.argument(2))
	case code == f.code32:
		n = int(r.argument(4))
	default:
		r.fail("want %s, found code %#x", f.what, code)
	}
	r.shortest(code, f.code(n))
	return n
}

// count reads an array's length, each of whose values takes at least size bytes of the input.
func (r *reader) count(size int) int {
	n := r.length(&arrays)
	if n > r.left()/size {
		r.fail("an array of %d values cannot fit in the %d bytes that are left", n, r.left())
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *reader) array(want int) {
	if n := r.count(1); r.err == nil && n != want {
		r.fail("want an array of %d values, found %d", want, n)
	}
}

func (r *reader) uint(v *uint64) {
	code := r.peek()
	switch {
	case code <= msgpcode.PosFixedNumHigh:
		r.at++
		*v = uint64(code)
	case msgpcode.Uint8 <= code && code <= msgpcode.Uint64:
		*v = r.argument(1 << (code - msgpcode.Uint8))
		r.shortest(code, uintCode(*v))
	default:
		r.fail("want an unsigned integer, found code %#x", code)
	}
}

func (r *reader) instant(v *Instant) {
	if r.isNil() {
		*v = Never
		return
	}
	if *v = Instant(r.int()); v.IsNever() {
		r.fail("never is written as nil")
	}
}

func (r *reader) int() (n int64) {
	code := r.peek()
	switch {
	case msgpcode.IsFixedNum(code):
		r.at++
		return int64(int8(code))
	case msgpcode.Uint8 <= code && code <= msgpcode.Uint64:
		n = int64(r.argument(1 << (code - msgpcode.Uint8))) // one beyond int64 is negative now, and so not in its shortest form
	case msgpcode.Int8 <= code && code <= msgpcode.Int64:
		width := 1 << (code - msgpcode.Int8)
		unused := 64 - 8*width
		n = int64(r.argument(width)<<unused) >> unused // with its sign
	default:
		r.fail("want an integer, found code %#x", code)
	}
	r.shortest(code, intCode(n))
	return n
}

func (r *reader) flag(v *bool) {
	code := r.peek()
	if code != msgpcode.True && code != msgpcode.False {
		r.fail("want a boolean, found code %#x", code)
		return
	}
	r.at++
	*v = code == msgpcode.True
}

func (r *reader) text(v *string) { *v = string(r.textBytes()) }

// textBytes is text without the copy.
func (r *reader) textBytes() []byte {
	b := r.take(r.length(&texts))
	if !utf8.Valid(b) {
		r.fail("a text is not valid UTF-8")
		return nil
	}
	return b
}

func (r *reader) optionalText(v **string) {
	if r.isNil() {
		*v = nil
		return
	}
	*v = new(string)
	r.text(*v)
}

func (r *reader) bin(v *[]byte) {
	*v = r.take(r.length(&byteStrings))
	if len(*v) == 0 {
		*v = nil
	}
}

func (r *reader) bin16(v *[16]byte) {
	if r.isNil() {
		*v = [16]byte{}
		return
	}
	r.exactly(v[:])
	if r.err == nil && *v == ([16]byte{}) {
		r.fail("an id of zeroes is written as nil")
	}
}

func (r *reader) bin32(v *[32]byte) { r.exactly(v[:]) }

func (r *reader) exactly(dst []byte) {
	b := r.take(r.length(&byteStrings))
	if r.err == nil && len(b) != len(dst) {
		r.fail("want %d bytes, found %d", len(dst), len(b))
	}
	copy(dst, b)
}

func (r *reader) deployments(v *[]DeploymentID) {
	n := r.count(2 + len(DeploymentID{}))
	if n == 0 {
		*v = nil
		return
	}
	const most = 64 // events to make room for at a time
	if len(r.room) < n {
		r.room = make([]DeploymentID, n*(1+min(r.behind, most)))
	}
	ids := r.room[:n:n]
	r.room = r.room[n:]
	for i := range ids {
		r.bin16((*[16]byte)(&ids[i]))
	}
	*v = ids
}

// end refuses what stands behind the last field.
func (r *reader) end() error {
	if n := r.left(); r.err == nil && n > 0 {
		r.fail("%d bytes stand behind the end", n)
	}
	return r.err
}
