package keyindex

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errRecord is wrapped by every error about stored bytes that are no record of this package.
var errRecord = errors.New("a record of the index is damaged")

// Everything stored has one form only: fixed widths, big endian, flags that say what follows. So the
// bytes that decode are exactly the bytes that were encoded, and equal content is equal bytes.

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// reader takes a record apart. The first fault sticks; what is read after it is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errRecord, fmt.Sprintf(format, args...))
	}
	r.rest = nil
}

// take gives the next n bytes, nil when there are not so many.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.fail("it ends too early")
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) fill(dst []byte) { copy(dst, r.take(len(dst))) }

func (r *reader) byte() byte {
	var b [1]byte
	r.fill(b[:])
	return b[0]
}

func (r *reader) uint64() uint64 {
	var b [8]byte
	r.fill(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// count reads how many things of at least size bytes follow, and holds it against what is left.
func (r *reader) count(size int) int {
	var b [4]byte
	r.fill(b[:])
	n := int(binary.BigEndian.Uint32(b[:]))
	if n > len(r.rest)/size {
		r.fail("it ends too early")
		return 0
	}
	return n
}

func (r *reader) text() string { return string(r.take(r.count(1))) }

// version begins every record.
func (r *reader) version(known byte) {
	if v := r.byte(); v != known && r.err == nil {
		r.fail("it is of form %d, this binary reads form %d", v, known)
	}
}

func (r *reader) end() error {
	if len(r.rest) > 0 {
		r.fail("%d bytes too many", len(r.rest))
	}
	return r.err
}
