package proof

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/keyfleet/keyfleet/events"
)

// Checkpoint is the end of a log as somebody vouches for it. Whoever keeps one can be shown later that the log grew out
// of it.
//
// Its text is a C2SP tlog-checkpoint with two extension lines:
//
//	keyfleet/<incarnation>
//	<Seq>
//	<root in base64>
//	chain <chain hash in hexadecimal>
//	time <of the last commit, RFC 3339>
type Checkpoint struct {
	Incarnation events.Incarnation `json:"incarnation"`
	Seq         events.Seq         `json:"seq"` // the last event of a commit, and the size of the tree
	Root        Root               `json:"root"`
	Chain       events.ChainHash   `json:"chain"`
	Time        events.Instant     `json:"time"`
}

// ErrNotSigned says that a checkpoint bears no signature of a key that is trusted here.
var ErrNotSigned = errors.New("it is not signed by a key that is trusted here")

const (
	originPrefix = "keyfleet/"
	// maxNote bounds a checkpoint with its signatures: those of a good number of witnesses fit.
	maxNote = 64 << 10
)

// CheckpointAt is the checkpoint of a tree that ends at a position.
func CheckpointAt(at events.Position, root Root) Checkpoint {
	return Checkpoint{Incarnation: at.Incarnation, Seq: at.Seq, Root: root, Chain: at.Chain, Time: at.Time}
}

func (c *Checkpoint) origin() string { return originPrefix + c.Incarnation.String() }

func (c *Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\nchain %s\ntime %s\n",
		c.origin(), c.Seq, base64.StdEncoding.EncodeToString(c.Root[:]), c.Chain, c.Time)
}

// Sign gives the checkpoint as a C2SP signed note, under the log's key.
func (c *Checkpoint) Sign(key ed25519.PrivateKey) ([]byte, error) {
	signer, err := newSigner(c.origin(), key)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: c.text()}, signer)
}

// OpenCheckpoint reads a checkpoint that one of the keys has signed, and says which. Signatures of others, as witnesses
// add them, are passed over. Errors wrap ErrNotSigned or events.ErrMalformed.
func OpenCheckpoint(signed []byte, keys ...events.PublicKey) (Checkpoint, events.PublicKey, error) {
	c, err := PeekCheckpoint(signed)
	if err != nil {
		return Checkpoint{}, events.PublicKey{}, err
	}
	for _, key := range keys {
		vkey, err := note.NewEd25519VerifierKey(c.origin(), key[:])
		if err != nil {
			return Checkpoint{}, events.PublicKey{}, err
		}
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return Checkpoint{}, events.PublicKey{}, err
		}
		if _, err := note.Open(signed, note.VerifierList(verifier)); err == nil {
			return c, key, nil
		}
	}
	return Checkpoint{}, events.PublicKey{}, fmt.Errorf("the checkpoint of Seq %d: %w", c.Seq, ErrNotSigned)
}

// PeekCheckpoint reads what a checkpoint says, whoever signed it: nothing of that is to be believed.
func PeekCheckpoint(signed []byte) (Checkpoint, error) {
	text, _, found := strings.Cut(string(signed[:min(len(signed), maxNote)]), "\n\n")
	lines := strings.Split(text, "\n")
	if !found || len(signed) > maxNote || len(lines) != 5 {
		return Checkpoint{}, fmt.Errorf("%w: it is no checkpoint of a Keyfleet log", events.ErrMalformed)
	}
	var c Checkpoint
	seq, seqErr := strconv.ParseUint(lines[1], 10, 63)
	c.Seq = events.Seq(seq)
	root, rootErr := base64.StdEncoding.DecodeString(lines[2])
	copy(c.Root[:], root)
	err := errors.Join(seqErr, rootErr,
		c.Incarnation.UnmarshalText([]byte(strings.TrimPrefix(lines[0], originPrefix))),
		c.Chain.UnmarshalText([]byte(strings.TrimPrefix(lines[3], "chain "))),
		c.Time.UnmarshalText([]byte(strings.TrimPrefix(lines[4], "time "))))
	// One checkpoint has one text: what is read differently than it is written is none.
	if err != nil || c.text() != text+"\n" || c.Seq == 0 {
		return Checkpoint{}, fmt.Errorf("%w: it is no checkpoint of a Keyfleet log", events.ErrMalformed)
	}
	return c, nil
}

// signer is a note.Signer with an Ed25519 key.
type signer struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
}

func newSigner(name string, key ed25519.PrivateKey) (*signer, error) {
	vkey, err := note.NewEd25519VerifierKey(name, ed25519.PublicKey(key[ed25519.SeedSize:]))
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &signer{name, verifier.KeyHash(), key}, nil
}

func (s *signer) Name() string                    { return s.name }
func (s *signer) KeyHash() uint32                 { return s.hash }
func (s *signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }
