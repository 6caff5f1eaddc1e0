package natsapi

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

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
		return text(dec, left)
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		return texts(dec, left)
	default:
		return nil, fmt.Errorf("its kind (code %#x) is not one that fields have", code)
	}
}

var errTooLong = errors.New("the list is too long")

func texts(dec *msgpack.Decoder, left *bytes.Reader) (any, error) {
	n, err := dec.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > left.Len() {
		return nil, fmt.Errorf("a list of %d cannot fit in the %d bytes that are left", n, left.Len())
	}
	if n > maxListed {
		return nil, errTooLong
	}
	list := make([]string, n)
	for i := range list {
		if list[i], err = text(dec, left); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// text reads a text that is one: the decoder takes bytes for texts too, and JSON has no way to write either what is
// not UTF-8 or the difference.
func text(dec *msgpack.Decoder, left *bytes.Reader) (string, error) {
	code, err := dec.PeekCode()
	if err != nil {
		return "", err
	}
	if !msgpcode.IsString(code) {
		return "", fmt.Errorf("code %#x is no text", code)
	}
	n, err := dec.DecodeBytesLen()
	if err != nil {
		return "", err
	}
	if n < 0 || n > left.Len() {
		return "", fmt.Errorf("a text of %d bytes cannot fit in the %d that are left", n, left.Len())
	}
	s := make([]byte, n)
	if err := dec.ReadFull(s); err != nil {
		return "", err
	}
	if !utf8.Valid(s) {
		return "", errors.New("a text is not valid UTF-8")
	}
	return string(s), nil
}
