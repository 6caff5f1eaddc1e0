package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is the SHA-256 of a secret's whole text: what is stored, sent and indexed instead of it.
type Digest [sha256.Size]byte

// ChainHash is the SHA-256 of a commit's body under a tag of its own. A body names the chain hash
// of the commit before it, so one chain hash stands for the whole log up to there.
type ChainHash [sha256.Size]byte

// PublicKey is an Ed25519 public key (RFC 8032).
type PublicKey [32]byte

// ParseDigest reads the 64 hexadecimal digits of a digest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if err := parseHex(d[:], s); err != nil {
		return Digest{}, fmt.Errorf("a digest is the SHA-256 of the secret as 64 hexadecimal digits: %w", err)
	}
	return d, nil
}

// IsZero reports whether the digest was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

func (d Digest) String() string    { return hex.EncodeToString(d[:]) }
func (h ChainHash) String() string { return hex.EncodeToString(h[:]) }
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText gives hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads them.
func (d *Digest) UnmarshalText(text []byte) error { return parseHex(d[:], string(text)) }

// MarshalText gives hexadecimal digits.
func (h ChainHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads them.
func (h *ChainHash) UnmarshalText(text []byte) error { return parseHex(h[:], string(text)) }

// MarshalText gives hexadecimal digits.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads them.
func (k *PublicKey) UnmarshalText(text []byte) error { return parseHex(k[:], string(text)) }

func parseHex(dst []byte, s string) error {
	if len(s) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("it has %d characters", len(s))
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}
