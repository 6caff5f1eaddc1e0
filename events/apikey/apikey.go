// Package apikey makes and reads the text of an API key: kf_, 43 base62 characters that hold 256
// bits from crypto/rand, and 6 base62 characters of the CRC-32 of all that stands before them. The
// prefix lets secret scanners find a key; the checksum refuses typos and noise without a lookup.
//
// It promises that a Secret shows itself only through Reveal. It leaves where digests are stored,
// and what a key opens, to others.
package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"

	"github.com/keyfleet/keyfleet/events"
)

// The parts of a key's text.
const (
	Prefix      = "kf_"
	randomLen   = 43
	checksumLen = 6
	Len         = len(Prefix) + randomLen + checksumLen
)

// alphabet is that of math/big.
const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// noDigit is set in the value of what is no base62 character.
const noDigit = 0x80

// valueOf is a base62 character's value.
var valueOf = func() (of [256]byte) {
	for i := range of {
		of[i] = noDigit
	}
	for i := range len(alphabet) {
		of[alphabet[i]] = byte(i)
	}
	return of
}()

// sumOfPrefix is where every key's checksum begins.
var sumOfPrefix = crc32.ChecksumIEEE([]byte(Prefix))

const redacted = "[redacted]"

// Secret is a key's text. It prints, logs and marshals as [redacted]; it is not comparable with ==.
type Secret struct {
	text string
	_    [0]func() // == would leak by timing how much of two secrets agrees
}

// Generate draws a new secret.
func Generate() Secret {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the process instead
	body := Prefix + base62(new(big.Int).SetBytes(raw[:]), randomLen)
	return Secret{text: body + checksum(body)}
}

// ErrForm says that a text is not a key of Keyfleet's own form, or has a typo.
var ErrForm = errors.New("this is not a Keyfleet API key (kf_ and 49 letters and digits), or it has a typo: copy it again whole")

// Parse reads a key's text. The only error is ErrForm.
func Parse(text string) (Secret, error) {
	if !WellFormed([]byte(text)) {
		return Secret{}, ErrForm
	}
	return Secret{text: text}, nil
}

// WellFormed reports whether presented bytes have the form of a key and a matching checksum.
// It allocates nothing.
func WellFormed(presented []byte) bool {
	if len(presented) != Len || string(presented[:len(Prefix)]) != Prefix {
		return false
	}
	const sumAt = Len - checksumLen
	random, last := presented[len(Prefix):sumAt], presented[sumAt:Len]
	var amiss byte
	for _, c := range random {
		amiss |= valueOf[c]
	}
	var sum uint64
	for _, c := range last {
		amiss |= valueOf[c]
		sum = sum*62 + uint64(valueOf[c])
	}
	return amiss&noDigit == 0 && sum == uint64(crc32.Update(sumOfPrefix, crc32.IEEETable, random))
}

// DigestOf is the digest of a presented key, of whatever form.
func DigestOf(presented []byte) events.Digest { return sha256.Sum256(presented) }

// Reveal is the secret itself, for its creator alone.
func (s Secret) Reveal() string { return s.text }

// Digest is what Keyfleet stores instead of the secret.
func (s Secret) Digest() events.Digest { return DigestOf([]byte(s.text)) }

// Hint is the part that lists may show: the first 4 and last 4 characters of the random part.
func (s Secret) Hint() string {
	if s.text == "" {
		return ""
	}
	random := s.text[len(Prefix) : len(Prefix)+randomLen]
	return Prefix + random[:4] + "…" + random[randomLen-4:]
}

// IsOwnHint reports whether a hint has the form that Hint gives, so that the key behind it is of
// Keyfleet's own form.
func IsOwnHint(hint string) bool {
	first, last, ok := strings.Cut(strings.TrimPrefix(hint, Prefix), "…")
	return ok && strings.HasPrefix(hint, Prefix) && isBase62(first, 4) && isBase62(last, 4)
}

func isBase62(s string, n int) bool {
	var amiss byte
	for i := range len(s) {
		amiss |= valueOf[s[i]]
	}
	return amiss&noDigit == 0 && len(s) == n
}

// Equal compares in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.text), []byte(other.text)) == 1
}

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return base62(new(big.Int).SetUint64(uint64(sum)), checksumLen)
}

// base62 writes n in digits of alphabet, padded with zeroes to width.
func base62(n *big.Int, width int) string {
	digits := n.Text(62)
	return strings.Repeat("0", width-len(digits)) + digits
}
