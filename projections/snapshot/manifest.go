package snapshot

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyfleet/keyfleet/events"
)

// tag begins every manifest, and is signed with it. Another form has another tag.
const tag = "keyfleet snapshot 1\n"

// What a reader makes room for.
const (
	maxManifest = 16 << 20
	maxTable    = 1 << 30
)

// ErrNotSigned: no pinned key has signed these bytes as a manifest.
var ErrNotSigned = errors.New("it is no manifest that a pinned key has signed")

// Manifest says what index a set of tables makes.
type Manifest struct {
	Position      events.Position `json:"position"`
	DigestVersion int             `json:"digest_version"`
	Digest        events.Digest   `json:"digest"` // of the index
	Tables        []Table         `json:"tables"` // in the order of their keys
}

// Table is one object.
type Table struct {
	Digest events.Digest `json:"digest"` // SHA-256 of the object
	Size   int64         `json:"size"`
	First  []byte        `json:"first"` // key of the index
	Last   []byte        `json:"last"`
}

// Size is what has to be fetched for all of it.
func (m *Manifest) Size() (total int64) {
	for i := range m.Tables {
		total += m.Tables[i].Size
	}
	return total
}

// sign gives the manifest's one form: the tag, the signature in hexadecimal digits, and JSON for people and tools. The
// signature is over the tag and the JSON.
func (m *Manifest) sign(signer crypto.Signer) ([]byte, error) {
	body, err := m.encode()
	if err != nil {
		return nil, err
	}
	signature, err := signer.Sign(nil, append([]byte(tag), body...), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	signed := append(hex.AppendEncode([]byte(tag), signature), '\n')
	return append(signed, body...), nil
}

// Open reads a manifest that one of the pinned keys has signed. Nothing else of it is looked at before the signature.
// Errors wrap ErrNotSigned or events.ErrMalformed.
func Open(signed []byte, pinned ...events.PublicKey) (Manifest, error) {
	const digits = 2 * ed25519.SignatureSize
	rest, tagged := bytes.CutPrefix(signed, []byte(tag))
	if !tagged || len(rest) <= digits || rest[digits] != '\n' || len(signed) > maxManifest {
		return Manifest{}, ErrNotSigned
	}
	var signature [ed25519.SignatureSize]byte
	if _, err := hex.Decode(signature[:], rest[:digits]); err != nil || bytes.ContainsAny(rest[:digits], "ABCDEF") {
		return Manifest{}, ErrNotSigned
	}
	body := rest[digits+1:]
	said := append([]byte(tag), body...)
	for _, key := range pinned {
		if ed25519.Verify(key[:], said, signature[:]) {
			return decode(body)
		}
	}
	return Manifest{}, ErrNotSigned
}

func (m *Manifest) encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// decode takes the one form that encode gives.
func decode(body []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: manifest: %w", events.ErrMalformed, err)
	}
	again, err := m.encode()
	if err != nil {
		return Manifest{}, err
	}
	if !bytes.Equal(again, body) {
		return Manifest{}, fmt.Errorf("%w: a manifest in another form than its own", events.ErrMalformed)
	}
	return m, nil
}

func (m *Manifest) check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: manifest: %s", events.ErrMalformed, fmt.Sprintf(format, args...))
	}
	switch {
	case m.Position.Seq == 0 || m.Position.Incarnation.IsZero():
		return wrong("no position")
	case m.Position.Time < 0 || m.Position.Time.IsNever():
		return wrong("dated %s", m.Position.Time)
	case len(m.Tables) == 0:
		return wrong("no tables")
	}
	var last []byte
	for i, t := range m.Tables {
		if t.Size <= 0 || t.Size > maxTable {
			return wrong("table %d has %d bytes", i, t.Size)
		}
		if bytes.Compare(last, t.First) >= 0 || bytes.Compare(t.First, t.Last) > 0 {
			return wrong("table %d is out of order", i)
		}
		last = t.Last
	}
	return nil
}
