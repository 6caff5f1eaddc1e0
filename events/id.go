package events

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
)

// ID is a random 128-bit identifier, public and loggable. Its text is a prefix that names the kind
// and 26 characters of Crockford's base32 in lower case, such as key_01h455vb4pex5vsknk084sn02q.
// The underscore keeps ids and names apart: no name may contain one.
type ID[K kind] [16]byte

// The kinds of ids. An instance is one run of a verifier; an incarnation is one life of a log.
type (
	KeyID        = ID[keyKind]
	DeploymentID = ID[deploymentKind]
	InstanceID   = ID[instanceKind]
	Incarnation  = ID[incarnationKind]
)

type kind interface{ prefix() string }

type (
	keyKind         struct{}
	deploymentKind  struct{}
	instanceKind    struct{}
	incarnationKind struct{}
)

func (keyKind) prefix() string         { return "key_" }
func (deploymentKind) prefix() string  { return "dep_" }
func (instanceKind) prefix() string    { return "ins_" }
func (incarnationKind) prefix() string { return "inc_" }

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID draws the bits of an id, of whatever kind it is assigned to, from crypto/rand.
func NewID() [16]byte {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails: it ends the process instead
	return id
}

// ParseKeyID reads the text form of a key's id. Each id has exactly one text.
func ParseKeyID(s string) (KeyID, error) { return parseID[keyKind](s) }

// ParseDeploymentID is ParseKeyID for deployments.
func ParseDeploymentID(s string) (DeploymentID, error) { return parseID[deploymentKind](s) }

// ParseInstanceID is ParseKeyID for instances.
func ParseInstanceID(s string) (InstanceID, error) { return parseID[instanceKind](s) }

func parseID[K kind](s string) (ID[K], error) {
	var id ID[K]
	var k K
	body, ok := strings.CutPrefix(s, k.prefix())
	if !ok || len(body) != idEncoding.EncodedLen(len(id)) {
		return id, fmt.Errorf("%q is not an id of the form %s and 26 characters", s, k.prefix())
	}
	if _, err := idEncoding.Decode(id[:], []byte(body)); err != nil || id.String() != s {
		return ID[K]{}, fmt.Errorf("%q is not an id: it has a character that ids never contain", s)
	}
	return id, nil
}

// IsZero reports whether the id was never set.
func (id ID[K]) IsZero() bool { return id == ID[K]{} }

func (id ID[K]) String() string {
	var k K
	return k.prefix() + idEncoding.EncodeToString(id[:])
}

// MarshalText gives the text form; the zero id is the empty text.
func (id ID[K]) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what MarshalText gives.
func (id *ID[K]) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID[K]{}
		return nil
	}
	parsed, err := parseID[K](string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
