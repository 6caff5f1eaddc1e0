package head

import (
	"encoding/hex"
	"fmt"

	"github.com/keyfleet/keyfleet/events"
)

// Where verifiers are heard: their names follow.
const (
	RenewSubject = "keyfleet.lease."
	AckSubject   = "keyfleet.ack."
)

// The codes of refusals that tell an instance what to do; after any other it tries again.
const (
	CodeStranger = "stranger" // begin anew, under another id
	CodeReleased = "released" // answer nothing any more
)

// Call is what is sent at RenewSubject: a renewal, or a goodbye.
type Call struct {
	Renewal
	Goodbye *Goodbye `json:"goodbye,omitempty"`
}

// Ack says how far an instance has come: what it answers from is at least that new. It is sent once readers see it.
type Ack struct {
	Instance events.InstanceID `json:"instance"`
	Head
}

// Renewal is what an instance tells of itself when it asks for its next grant. On the wire it is JSON, and readers pass over
// fields that they do not know.
type Renewal struct {
	Ack                           // what is applied; Seq 0 for nothing
	Nonce          Nonce          `json:"nonce"`            // never used again
	Ticket         Ticket         `json:"ticket"`           // of the last grant; zero before the first
	Newest         []byte         `json:"newest,omitempty"` // the signed grant with the highest head that it has seen
	Join           *Join          `json:"join,omitempty"`   // of an instance that is no member yet
	State          string         `json:"state"`
	Schema         uint64         `json:"schema"` // newest that it understands
	Wall           events.Instant `json:"wall"`
	IndexDigest    events.Digest  `json:"index_digest,omitzero"` // of the content of its index at Head
	DigestVersion  int            `json:"digest_version,omitempty"`
	WantsToRebuild bool           `json:"wants_to_rebuild,omitempty"` // its index proved wrong, and it waits for leave to begin anew
}

// Join is what becomes of an instance's membership.
type Join struct {
	PoP        string      `json:"pop"`
	Mode       events.Mode `json:"mode"`
	ServeBound uint64      `json:"serve_bound_ms,omitempty"`
	Version    string      `json:"version"` // of its binary, for people
}

// Goodbye ends an instance's membership. It is sent once nothing is answered any more.
type Goodbye struct {
	Instance events.InstanceID `json:"instance"`
	Ticket   Ticket            `json:"ticket"`
}

// MarshalText gives hexadecimal digits.
func (n Nonce) MarshalText() ([]byte, error) { return hexOf(n[:]), nil }

// UnmarshalText reads them.
func (n *Nonce) UnmarshalText(text []byte) error { return readHex(n[:], text) }

// MarshalText gives hexadecimal digits.
func (t Ticket) MarshalText() ([]byte, error) { return hexOf(t[:]), nil }

// UnmarshalText reads them.
func (t *Ticket) UnmarshalText(text []byte) error { return readHex(t[:], text) }

func hexOf(b []byte) []byte { return hex.AppendEncode(nil, b) }

func readHex(dst, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%w: want %d hexadecimal digits, found %d characters", events.ErrMalformed, hex.EncodedLen(len(dst)), len(text))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("%w: %w", events.ErrMalformed, err)
	}
	return nil
}
