package events

import (
	"bytes"
	"errors"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
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

// writers are those that are done: what they have room for, others will need again.
var writers sync.Pool

func newWriter() *writer {
	if w, kept := writers.Get().(*writer); kept {
		return w
	}
	w := &writer{}
	w.enc = msgpack.NewEncoder(&w.buf)
	return w
}

// end gives what was written. Nothing may be asked of the writer any more.
func (w *writer) end() ([]byte, error) {
	data, err := bytes.Clone(w.buf.Bytes()), w.err
	w.buf.Reset()
	w.err = nil
	writers.Put(w)
	return data, err
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
