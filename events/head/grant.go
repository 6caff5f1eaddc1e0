package head

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// Head is the end of a log as someone has seen it.
type Head struct {
	Incarnation events.Incarnation `json:"incarnation"`
	Seq         events.Seq         `json:"seq"` // the last event of a commit
	Chain       events.ChainHash   `json:"chain"`
}

// Nonce ties a grant to the renewal that asked for it, and so to the time at which it was asked.
type Nonce [16]byte

// Ticket is the protocol's one-time token: each grant brings the one that the next renewal has to show. One that is
// shown twice says that two machines believe to be the same instance.
type Ticket [16]byte

// Grant is leave for one instance to answer until Lease after it sent its renewal, once everything up to Head is
// applied.
type Grant struct {
	Head
	Root       [32]byte // of the RFC 6962 Merkle tree over the events up to Head
	Term       uint64   // of the registry that gave it
	Instance   events.InstanceID
	Nonce      Nonce          // of the renewal that it answers
	Ticket     Ticket         // to show with the next one
	Lease      time.Duration  // in milliseconds, counted from when the renewal was sent
	Mode       events.Mode    // what the instance does past its lease,
	ServeBound time.Duration  // and in ModeServe for how long; in milliseconds
	AckEvery   time.Duration  // how far apart acknowledgements may be that nobody waits for; in milliseconds
	Attested   events.Instant // the registry's time; 0 unless it vouches for it
	Rebuild    bool           // an instance whose index proved wrong may begin a new one now
}

// The form of a grant: its fields in the order of Grant, of fixed width, integers big endian, and the signature, which is
// over grantTag and all that stands before it.
const (
	grantTag   = "keyfleet grant 1\n"
	grantBytes = 16 + 8 + 32 + 32 + 8 + 16 + 16 + 16 + 8 + 1 + 8 + 8 + 8 + 1
	// SignedBytes is the size of every signed grant.
	SignedBytes = grantBytes + ed25519.SignatureSize
)

// ErrNotSigned says that bytes are no grant that a pinned key has signed.
var ErrNotSigned = errors.New("it is not signed by a key of the log that is pinned here")

// Sign gives the grant's bytes with the registry's signature.
func (g *Grant) Sign(key ed25519.PrivateKey) []byte {
	b := g.append(make([]byte, 0, SignedBytes))
	return append(b, ed25519.Sign(key, append([]byte(grantTag), b...))...)
}

func (g *Grant) append(b []byte) []byte {
	number := func(n uint64) { b = binary.BigEndian.AppendUint64(b, n) }
	b = append(b, g.Incarnation[:]...)
	number(uint64(g.Seq))
	b = append(append(b, g.Chain[:]...), g.Root[:]...)
	number(g.Term)
	b = append(append(append(b, g.Instance[:]...), g.Nonce[:]...), g.Ticket[:]...)
	number(uint64(g.Lease.Milliseconds()))
	b = append(b, bit(g.Mode == events.ModeServe))
	number(uint64(g.ServeBound.Milliseconds()))
	number(uint64(g.AckEvery.Milliseconds()))
	number(uint64(g.Attested))
	return append(b, bit(g.Rebuild))
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// Open reads a grant that one of the pinned keys has signed. Errors wrap ErrNotSigned or events.ErrMalformed.
func Open(signed []byte, pinned ...events.PublicKey) (Grant, error) {
	if len(signed) != SignedBytes {
		return Peek(signed)
	}
	body, signature := signed[:grantBytes], signed[grantBytes:]
	said := append([]byte(grantTag), body...)
	for _, key := range pinned {
		if ed25519.Verify(key[:], said, signature) {
			return Peek(signed)
		}
	}
	return Grant{}, ErrNotSigned
}

// IsSigned reports whether one of the keys has signed the grant.
func IsSigned(grant []byte, by ...events.PublicKey) bool {
	_, err := Open(grant, by...)
	return err == nil
}

// Peek reads a grant without asking who signed it: what it says is nobody's word. Errors wrap events.ErrMalformed.
func Peek(signed []byte) (Grant, error) {
	if len(signed) != SignedBytes {
		return Grant{}, fmt.Errorf("%w: a signed grant has %d bytes, not %d", events.ErrMalformed, SignedBytes, len(signed))
	}
	return read(signed[:grantBytes])
}

func read(b []byte) (Grant, error) {
	var g Grant
	fill := func(dst []byte) { b = b[copy(dst, b):] }
	number := func() uint64 {
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return n
	}
	var wrong error
	duration := func() time.Duration {
		const most = uint64(1<<63-1) / uint64(time.Millisecond)
		ms := number()
		if ms > most {
			wrong = fmt.Errorf("%w: a grant of %d ms", events.ErrMalformed, ms)
			return 0
		}
		return time.Duration(ms) * time.Millisecond
	}
	flag := func() bool {
		set := b[0]
		if b = b[1:]; set > 1 {
			wrong = fmt.Errorf("%w: a truth of %d", events.ErrMalformed, set)
		}
		return set == 1
	}
	fill(g.Incarnation[:])
	g.Seq = events.Seq(number())
	fill(g.Chain[:])
	fill(g.Root[:])
	g.Term = number()
	fill(g.Instance[:])
	fill(g.Nonce[:])
	fill(g.Ticket[:])
	g.Lease = duration()
	g.Mode = events.ModeDeny
	if flag() {
		g.Mode = events.ModeServe
	}
	g.ServeBound, g.AckEvery = duration(), duration()
	g.Attested = events.Instant(number())
	g.Rebuild = flag()
	return g, wrong
}
