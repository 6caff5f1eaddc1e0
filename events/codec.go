package events

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// ErrMalformed is wrapped by every error about bytes that are no commit or event.
var ErrMalformed = errors.New("malformed")

// codec is one direction of the wire format: a writer that reads the fields it is shown, or a
// reader that fills them. Everything on the wire is an array of fixed length, so that a format is
// written down once, as a list of fields. Errors stick: only the first is kept.
type codec interface {
	array(n int)
	uint(*uint64)
	instant(*Instant) // nil stands for Never
	flag(*bool)
	text(*string)
	optionalText(**string)
	bin(*[]byte)
	bin16(*[16]byte) // nil stands for zeroes
	bin32(*[32]byte)
	deployments(*[]DeploymentID)
}

type writer struct {
	buf bytes.Buffer
	enc *msgpack.Encoder
	err error
}

func newWriter() *writer {
	w := &writer{}
	w.enc = msgpack.NewEncoder(&w.buf)
	return w
}

func (w *writer) keep(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) array(n int)    { w.keep(w.enc.EncodeArrayLen(n)) }
func (w *writer) uint(v *uint64) { w.keep(w.enc.EncodeUint(*v)) }
func (w *writer) flag(v *bool)   { w.keep(w.enc.EncodeBool(*v)) }
func (w *writer) text(v *string) { w.keep(w.enc.EncodeString(*v)) }

func (w *writer) instant(v *Instant) {
	if v.IsNever() {
		w.keep(w.enc.EncodeNil())
		return
	}
	w.keep(w.enc.EncodeInt(int64(*v)))
}

func (w *writer) optionalText(v **string) {
	if *v == nil {
		w.keep(w.enc.EncodeNil())
		return
	}
	w.text(*v)
}

func (w *writer) bin(v *[]byte) {
	w.keep(w.enc.EncodeBytesLen(len(*v)))
	w.buf.Write(*v)
}

func (w *writer) bin16(v *[16]byte) {
	if *v == ([16]byte{}) {
		w.keep(w.enc.EncodeNil())
		return
	}
	b := v[:]
	w.bin(&b)
}

func (w *writer) bin32(v *[32]byte) {
	b := v[:]
	w.bin(&b)
}

func (w *writer) deployments(v *[]DeploymentID) {
	w.array(len(*v))
	for i := range *v {
		w.bin16((*[16]byte)(&(*v)[i]))
	}
}

// reader decodes strictly: the exact array lengths and value kinds that writer emits, nothing
// behind them. Lengths are held against what is left of the input before anything is allocated;
// byte strings are slices of the input.
type reader struct {
	data []byte
	src  bytes.Reader
	dec  msgpack.Decoder
	err  error
}

func newReader(data []byte) *reader {
	r := &reader{}
	r.begin(data)
	return r
}

// begin reads something else from now on. A reader is big: one serves all events of a commit.
func (r *reader) begin(data []byte) {
	r.data, r.err = data, nil
	r.src.Reset(data)
	r.dec.Reset(&r.src)
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		at := len(r.data) - r.src.Len()
		r.err = fmt.Errorf("%w: at byte %d: %s", ErrMalformed, at, fmt.Sprintf(format, args...))
	}
}

func (r *reader) keep(err error) {
	if err != nil {
		r.fail("%v", err)
	}
}

// peek gives the code of the next value, 0xc1 (never used by msgpack) once an error stands.
func (r *reader) peek() byte {
	const neverUsed = 0xc1
	if r.err != nil {
		return neverUsed
	}
	code, err := r.dec.PeekCode()
	if err != nil {
		r.keep(err)
		return neverUsed
	}
	return code
}

func (r *reader) isNil() bool {
	if r.peek() != msgpcode.Nil {
		return false
	}
	r.keep(r.dec.DecodeNil())
	return true
}

// count reads an array's length, each of whose values takes at least size bytes of the input.
func (r *reader) count(size int) int {
	code := r.peek()
	if r.err != nil {
		return 0
	}
	if !msgpcode.IsFixedArray(code) && code != msgpcode.Array16 && code != msgpcode.Array32 {
		r.fail("want an array, found code %#x", code)
		return 0
	}
	n, err := r.dec.DecodeArrayLen()
	r.keep(err)
	if n < 0 || n > r.src.Len()/size {
		r.fail("an array of %d values cannot fit in the %d bytes that are left", n, r.src.Len())
	}
	r.shortest(code, lengthCode(n, 15, msgpcode.FixedArrayLow, 0, msgpcode.Array16, msgpcode.Array32))
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
	if code > msgpcode.PosFixedNumHigh && (code < msgpcode.Uint8 || code > msgpcode.Uint64) {
		r.fail("want an unsigned integer, found code %#x", code)
		return
	}
	n, err := r.dec.DecodeUint64()
	r.keep(err)
	r.shortest(code, uintCode(n))
	*v = n
}

func (r *reader) instant(v *Instant) {
	if r.isNil() {
		*v = Never
		return
	}
	code := r.peek()
	if !msgpcode.IsFixedNum(code) && (code < msgpcode.Uint8 || code > msgpcode.Int64) {
		r.fail("want an integer, found code %#x", code)
		return
	}
	n, err := r.dec.DecodeInt64()
	r.keep(err)
	r.shortest(code, intCode(n))
	if *v = Instant(n); v.IsNever() {
		r.fail("never is written as nil")
	}
}

func (r *reader) flag(v *bool) {
	if code := r.peek(); code != msgpcode.True && code != msgpcode.False {
		r.fail("want a boolean, found code %#x", code)
		return
	}
	b, err := r.dec.DecodeBool()
	r.keep(err)
	*v = b
}

func (r *reader) text(v *string) { *v = string(r.textBytes()) }

// textBytes is text without the copy.
func (r *reader) textBytes() []byte {
	code := r.peek()
	if !msgpcode.IsFixedString(code) && code != msgpcode.Str8 && code != msgpcode.Str16 && code != msgpcode.Str32 {
		r.fail("want a text, found code %#x", code)
		return nil
	}
	b := r.slice()
	r.shortest(code, lengthCode(len(b), 31, msgpcode.FixedStrLow, msgpcode.Str8, msgpcode.Str16, msgpcode.Str32))
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
	code := r.peek()
	if code != msgpcode.Bin8 && code != msgpcode.Bin16 && code != msgpcode.Bin32 {
		r.fail("want a byte string, found code %#x", code)
		return
	}
	*v = r.slice()
	r.shortest(code, lengthCode(len(*v), -1, 0, msgpcode.Bin8, msgpcode.Bin16, msgpcode.Bin32))
}

// slice gives the bytes of the next text or byte string, as a part of the input.
func (r *reader) slice() []byte {
	n, err := r.dec.DecodeBytesLen()
	r.keep(err)
	if n < 0 || n > r.src.Len() {
		r.fail("%d bytes are announced, %d are left", n, r.src.Len())
	}
	if r.err != nil || n == 0 {
		return nil
	}
	at := len(r.data) - r.src.Len()
	_, err = r.src.Seek(int64(at+n), io.SeekStart)
	r.keep(err)
	return r.data[at : at+n : at+n]
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
	var b []byte
	r.bin(&b)
	if r.err == nil && len(b) != len(dst) {
		r.fail("want %d bytes, found %d", len(dst), len(b))
	}
	copy(dst, b)
}

func (r *reader) deployments(v *[]DeploymentID) {
	n := r.count(2 + len(DeploymentID{}))
	if r.err != nil || n == 0 {
		*v = nil
		return
	}
	ids := make([]DeploymentID, n)
	for i := range ids {
		r.bin16((*[16]byte)(&ids[i]))
	}
	*v = ids
}

// end refuses what stands behind the last field.
func (r *reader) end() error {
	if n := r.src.Len(); r.err == nil && n > 0 {
		r.fail("%d bytes stand behind the end", n)
	}
	return r.err
}
