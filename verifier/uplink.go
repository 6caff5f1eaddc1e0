package verifier

import (
	"context"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// Uplink asks the registry for leave to answer.
type Uplink interface {
	// Renew asks for a lease, with a nonce that is never used again. The grant's head must be read after
	// Renew is called. It may be called again after an error; calls do not overlap.
	Renew(context.Context, Renewal) (Grant, error)
}

// Nonce ties a grant to the request that asked for it, and so to the time at which it was asked.
type Nonce [16]byte

// Renewal is what a verifier tells of itself when it asks.
type Renewal struct {
	Nonce   Nonce
	Applied events.Position
}

// Grant is leave to answer until Lease after the request was sent, once everything up to Head is applied.
type Grant struct {
	Nonce    Nonce // of the Renewal that it answers
	Head     Head
	Term     uint64         // of the registry that gave it
	Lease    time.Duration  // counted from when the Renewal was sent
	Attested events.Instant // the registry's time, 0 unless it vouches for it
}

// Head is the end of a log as someone has seen it.
type Head struct {
	Incarnation events.Incarnation
	Seq         events.Seq // the last event of a commit
	Chain       events.ChainHash
}

// LocalUplink lets a verifier that stands beside the log grant itself a lease on the log's newest commit.
type LocalUplink struct {
	Log interface {
		Last(context.Context) (events.Entry, error)
	}
	Lease time.Duration // default 10 min
}

const defaultLease = 10 * time.Minute

// Renew grants the newest commit there is.
func (u LocalUplink) Renew(ctx context.Context, r Renewal) (Grant, error) {
	last, err := u.Log.Last(ctx)
	if err != nil {
		return Grant{}, err
	}
	lease := u.Lease
	if lease == 0 {
		lease = defaultLease
	}
	head := Head{Incarnation: last.Commit.Incarnation, Seq: last.Commit.Last(), Chain: last.Chain}
	return Grant{Nonce: r.Nonce, Head: head, Term: last.Commit.Term, Lease: lease}, nil
}
