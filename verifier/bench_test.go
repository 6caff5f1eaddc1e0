package verifier

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
)

// BenchmarkCheck asks for keys in random order, in process. Beside the mean there is what half and 99 of 100 checks took, as two
// looks at the clock tell, which all of these have in them. Beneath a check stand sha256/, the digest of the key; floor/, with one line
// of memory; and floor-and-clock/, with the look at the clock that leases and expiries need. pebble/ and map/ are what else might
// answer: a bare look into the index's store, its blocks in memory, and into a Go map. Ten million keys take two minutes to make;
// KEYFLEET_BENCH_10M=1 has them.
func BenchmarkCheck(b *testing.B) {
	sizes := []struct {
		label string
		keys  int
	}{{"100k", 100_000}, {"1M", 1_000_000}, {"10M", 10_000_000}}
	for _, size := range sizes {
		if size.keys == 100_000 != testing.Short() || size.keys == 10_000_000 && os.Getenv("KEYFLEET_BENCH_10M") == "" {
			continue
		}
		w := newWorld(b, func(o *Options) { o.CacheBytes, o.Clock, o.Reports = 4<<30, clock.System{}, newStored() }).open()
		secrets := fill(b, w.v, size.keys)
		unknown := make([][]byte, len(secrets))
		for i := range unknown {
			unknown[i] = []byte(apikey.Generate().Reveal())
		}
		b.Run("keys="+size.label, func(b *testing.B) {
			b.Run("hit", func(b *testing.B) { ask(b, secrets, w.v.checking(b, projections.Allowed)) })
			b.Run("miss", func(b *testing.B) { ask(b, unknown, w.v.checking(b, projections.Unknown)) })
			b.Run("both-cores", func(b *testing.B) { askFromAll(b, secrets, w.v.checking(b, projections.Allowed)) })
			b.Run("sha256", func(b *testing.B) { ask(b, secrets, func(key []byte) { _ = apikey.DigestOf(key) }) })
			line := lines(b, size.keys)
			b.Run("floor", func(b *testing.B) { ask(b, secrets, line) })
			b.Run("floor-and-clock", func(b *testing.B) {
				ask(b, secrets, func(key []byte) { line(key); _, _ = clock.System{}.Both() })
			})
			b.Run("pebble", func(b *testing.B) { ask(b, secrets, w.v.finding(b)) })
			b.Run("map", func(b *testing.B) { ask(b, secrets, mapped(secrets, size.keys)) })
		})
	}
}

func (v *Verifier) checking(b *testing.B, want projections.Reason) func([]byte) {
	return func(key []byte) {
		if a := v.Check(b.Context(), Request{Project: "demo", Deployment: "echo", Key: key}); a.Reason != want {
			b.Errorf("%s, not %s", a.Reason, want)
		}
	}
}

func (v *Verifier) finding(b *testing.B) func([]byte) {
	return func(key []byte) {
		if k, err := v.idx.Find(apikey.DigestOf(key)); err != nil || !k.Exists() {
			b.Errorf("not found: %v", err)
		}
	}
}

// lines is the least that a check can cost: the digest of the key, and one line of memory out of one for each key.
func lines(b *testing.B, size int) func([]byte) {
	all := make([][8]uint64, size)
	for i := range all {
		all[i][0] = 1
	}
	return func(key []byte) {
		digest := apikey.DigestOf(key)
		if all[binary.BigEndian.Uint64(digest[:])%uint64(len(all))][0] != 1 {
			b.Error("a line of memory is not what it was")
		}
	}
}

// mapped is a map of so many digests, the secrets' among them.
func mapped(secrets [][]byte, size int) func([]byte) {
	all := make(map[events.Digest][8]uint64, size)
	for i := range size - len(secrets) {
		all[apikey.DigestOf(binary.BigEndian.AppendUint64(nil, uint64(i)))] = [8]uint64{1}
	}
	for _, s := range secrets {
		all[apikey.DigestOf(s)] = [8]uint64{1}
	}
	return func(key []byte) {
		if all[apikey.DigestOf(key)][0] != 1 {
			panic("a digest is not in the map")
		}
	}
}

// ask has one look for key after key. The key is in the cache, as one that was just received is.
func ask(b *testing.B, keys [][]byte, look func([]byte)) {
	var took [1 << 16]int // so many of so many nanoseconds
	key := make([]byte, 0, apikey.Len)
	b.ReportAllocs()
	for b.Loop() {
		key = append(key[:0], keys[rand.IntN(len(keys))]...)
		began := time.Now()
		look(key)
		took[min(int(time.Since(began)), len(took)-1)]++
	}
	for _, q := range []int{50, 99} {
		at, left := 0, b.N*q/100
		for left -= took[0]; left > 0; left -= took[at] {
			at++
		}
		b.ReportMetric(float64(at), fmt.Sprintf("p%d-ns", q))
	}
}

func askFromAll(b *testing.B, keys [][]byte, look func([]byte)) {
	b.RunParallel(func(pb *testing.PB) {
		key := make([]byte, 0, apikey.Len)
		for pb.Next() {
			key = append(key[:0], keys[rand.IntN(len(keys))]...)
			look(key)
		}
	})
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
