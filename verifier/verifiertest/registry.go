// Package verifiertest stands in for a registry, where a test or a benchmark is about a verifier alone. It grants whoever
// asks a lease on the log's newest commit, and remembers what it is told; it counts nothing and refuses nobody.
package verifiertest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

// Registry is a verifier.Uplink, for any number of verifiers.
type Registry struct {
	Lease time.Duration // default 10 min
	log   lastReader
	key   ed25519.PrivateKey

	mu    sync.Mutex
	asked []head.Renewal
	acks  []head.Ack
	left  []head.Goodbye
	joins map[events.InstanceID]head.Join
}

type lastReader interface {
	Last(context.Context) (events.Entry, error)
}

// New makes a registry on the log, with a signing key of its own.
func New(log lastReader) *Registry {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return &Registry{log: log, key: key, Lease: 10 * time.Minute, joins: map[events.InstanceID]head.Join{}}
}

// Keys are those that its grants open with.
func (r *Registry) Keys() []events.PublicKey {
	return []events.PublicKey{events.PublicKey(r.key[ed25519.SeedSize:])}
}

// Renew grants the newest commit there is.
func (r *Registry) Renew(ctx context.Context, ask head.Renewal) ([]byte, error) {
	return r.RenewAs(ctx, ask, func(*head.Grant) {})
}

// RenewAs grants something else.
func (r *Registry) RenewAs(ctx context.Context, ask head.Renewal, change func(*head.Grant)) ([]byte, error) {
	last, err := r.log.Last(ctx)
	if err != nil {
		return nil, err
	}
	g := head.Grant{
		Head:     head.Head{Incarnation: last.Commit.Incarnation, Seq: last.Commit.Last(), Chain: last.Chain},
		Term:     last.Commit.Term,
		Instance: ask.Instance, Nonce: ask.Nonce, Lease: r.Lease, Mode: events.ModeDeny,
	}
	_, _ = rand.Read(g.Ticket[:])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, ask)
	if ask.Join != nil {
		r.joins[ask.Instance] = *ask.Join
	}
	if join := r.joins[ask.Instance]; join.Mode == events.ModeServe {
		g.Mode, g.ServeBound = join.Mode, time.Duration(join.ServeBound)*time.Millisecond
	}
	change(&g)
	return g.Sign(r.key), nil
}

// Acknowledge is heard.
func (r *Registry) Acknowledge(a head.Ack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acks = append(r.acks, a)
}

// Goodbye is heard.
func (r *Registry) Goodbye(_ context.Context, g head.Goodbye) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = append(r.left, g)
	return nil
}

// Heard gives all that it was told so far.
func (r *Registry) Heard() ([]head.Renewal, []head.Ack, []head.Goodbye) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]head.Renewal(nil), r.asked...), append([]head.Ack(nil), r.acks...), append([]head.Goodbye(nil), r.left...)
}
