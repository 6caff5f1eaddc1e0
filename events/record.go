package events

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// How the nouns stand in msgpack records that projections keep: as bytes and integers, where JSON has
// texts. The log's own format does not pass through here.

// EncodeMsgpack writes the id's bytes.
func (id ID[K]) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.EncodeBytes(id[:]) }

// DecodeMsgpack reads what EncodeMsgpack writes.
func (id *ID[K]) DecodeMsgpack(dec *msgpack.Decoder) error { return decodeBytes(dec, id[:]) }

// EncodeMsgpack writes the digest's bytes.
func (d Digest) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.EncodeBytes(d[:]) }

// DecodeMsgpack reads what EncodeMsgpack writes.
func (d *Digest) DecodeMsgpack(dec *msgpack.Decoder) error { return decodeBytes(dec, d[:]) }

// EncodeMsgpack writes the chain hash's bytes.
func (h ChainHash) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.EncodeBytes(h[:]) }

// DecodeMsgpack reads what EncodeMsgpack writes.
func (h *ChainHash) DecodeMsgpack(dec *msgpack.Decoder) error { return decodeBytes(dec, h[:]) }

// EncodeMsgpack writes the public key's bytes.
func (k PublicKey) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.EncodeBytes(k[:]) }

// DecodeMsgpack reads what EncodeMsgpack writes.
func (k *PublicKey) DecodeMsgpack(dec *msgpack.Decoder) error { return decodeBytes(dec, k[:]) }

// EncodeMsgpack writes the milliseconds.
func (i Instant) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.EncodeInt(int64(i)) }

// DecodeMsgpack reads what EncodeMsgpack writes.
func (i *Instant) DecodeMsgpack(dec *msgpack.Decoder) error {
	n, err := dec.DecodeInt64()
	*i = Instant(n)
	return err
}

func decodeBytes(dec *msgpack.Decoder, dst []byte) error {
	n, err := dec.DecodeBytesLen()
	if err != nil {
		return err
	}
	if n != len(dst) {
		return fmt.Errorf("%w: %d bytes where %d belong", ErrMalformed, n, len(dst))
	}
	return dec.ReadFull(dst)
}
