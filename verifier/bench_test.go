package verifier

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
)

// BenchmarkCheck asks for keys in random order, in process.
func BenchmarkCheck(b *testing.B) {
	size, label := 1_000_000, "1M"
	if testing.Short() {
		size, label = 100_000, "100k"
	}
	w := newWorld(b, func(o *Options) { o.CacheBytes = 1 << 30; o.Clock = clock.System{} }).open()
	secrets := fill(b, w.v, size)
	b.Run(fmt.Sprintf("keys=%s/hit", label), func(b *testing.B) { ask(b, w.v, secrets, projections.Allowed) })
	for i := range secrets {
		secrets[i] = []byte(apikey.Generate().Reveal())
	}
	b.Run(fmt.Sprintf("keys=%s/miss", label), func(b *testing.B) { ask(b, w.v, secrets, projections.Unknown) })
}

func ask(b *testing.B, v *Verifier, secrets [][]byte, want projections.Reason) {
	r := Request{Project: "demo", Deployment: "echo"}
	order := rand.Perm(len(secrets))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Key = secrets[order[i%len(order)]]
		if a := v.Check(b.Context(), r); a.Reason != want {
			b.Fatalf("%s, not %s", a.Reason, want)
		}
	}
}

// fill applies so many keys that open the deployment echo, and returns the secrets of some.
func fill(b *testing.B, v *Verifier, size int) (secrets [][]byte) {
	id := func(n int) (id [16]byte) { binary.BigEndian.PutUint64(id[:], uint64(n)+1); return id }
	echo := events.DeploymentID(id(size + 1))
	es := []events.Event{
		{Fact: &events.LogOpened{}}, {Project: "demo", Subject: echo, Rev: 1, Fact: &events.DeploymentRegistered{Name: "echo"}},
	}
	var position events.Position
	apply := func() {
		c := &events.Commit{Schema: 1, First: position.Seq + 1, Parent: position.Chain}
		require.NoError(b, c.Add(es...))
		entry := events.Entry{Commit: c, Chain: events.ChainHash{byte(c.First), byte(c.First >> 8), byte(c.First >> 16)}}
		require.NoError(b, applier{v}.Apply([]events.Entry{entry}))
		position, es = v.idx.Position(), es[:0:0]
	}
	for i := range size {
		created := &events.Created{Deployments: []events.DeploymentID{echo}, ExpiresAt: events.Never}
		if i%10 == 0 {
			secret := []byte(apikey.Generate().Reveal())
			secrets, created.Digest = append(secrets, secret), apikey.DigestOf(secret)
		} else {
			created.Digest = apikey.DigestOf(binary.BigEndian.AppendUint64(nil, uint64(i)))
		}
		es = append(es, events.Event{Project: "demo", Subject: id(i), Rev: 1, Fact: created})
		if len(es) == events.MaxCommitEvents {
			apply()
		}
	}
	apply()
	v.hold.ask(head.Nonce{1}, v.opts.Clock.Elapsed())
	g := head.Grant{Nonce: head.Nonce{1}, Instance: v.hold.gate.self, Lease: leaseOf10 * 100,
		Head: head.Head{Incarnation: position.Incarnation, Seq: position.Seq, Chain: position.Chain}}
	require.NoError(b, v.hold.grant(g, nil, v.opts.Clock.Elapsed()))
	v.change(func(*hold, time.Duration) {}) // shows it to checks
	return secrets
}
