package natsapi

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// flatValue reads nil, a boolean, an integer, a text or a list of texts. Lengths are held against what is
// left before anything is allocated for them.
func flatValue(dec *msgpack.Decoder, left *bytes.Reader) (any, error) {
	code, err := dec.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case code == msgpcode.Nil:
		return nil, dec.DecodeNil()
	case code == msgpcode.True, code == msgpcode.False:
		return dec.DecodeBool()
	case code <= msgpcode.PosFixedNumHigh, code >= msgpcode.Uint8 && code <= msgpcode.Uint64:
		return dec.DecodeUint64()
	case code >= msgpcode.NegFixedNumLow, code >= msgpcode.Int8 && code <= msgpcode.Int64:
		return dec.DecodeInt64()
	case msgpcode.IsString(code):
		return dec.DecodeString()
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		return texts(dec, left)
	default:
		return nil, fmt.Errorf("its kind (code %#x) is not one that fields have", code)
	}
}

func texts(dec *msgpack.Decoder, left *bytes.Reader) (any, error) {
	n, err := dec.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > left.Len() {
		return nil, fmt.Errorf("a list of %d cannot fit in the %d bytes that are left", n, left.Len())
	}
	list := make([]string, n)
	for i := range list {
		if list[i], err = dec.DecodeString(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
