package verifier

import (
	"context"
	"crypto/ed25519"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/events/head"
)

// vouching is a registry that vouches for no more than a head, while there is one.
type vouching struct {
	uplink
	head atomic.Pointer[head.Head]
}

func (u *vouching) Renew(ctx context.Context, ask head.Renewal) ([]byte, error) {
	u.clock.Advance(time.Millisecond) // a grant that ends no later than the one in use is not used
	return u.hub.RenewAs(ctx, ask, func(g *head.Grant) {
		if h := u.head.Load(); h != nil {
			g.Head = *h
		}
	})
}

// What a log says of its keys may be somebody's who can write to the stream, until a believed key has signed a head behind it.
func TestKeysAreLearntOnceAHeadVouchesForThem(t *testing.T) {
	hub := &vouching{}
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	hub.uplink = uplink{w}
	w.opts.Uplink = hub
	w.run()
	w.caughtUp()
	end := headOf(w.last)
	hub.head.Store(&end)
	renewals := func() int {
		asked, _, _ := w.hub.Heard()
		return len(asked)
	}
	pinned, forged := w.hub.Keys()[0], events.PublicKey{7}
	w.commit(events.Event{Fact: &events.SigningKeyAdded{SigningKey: pinned}}, events.Event{Fact: &events.SigningKeyAdded{SigningKey: forged}})
	require.Eventually(t, func() bool { return w.v.gate.Load().applied == w.last.Seq }, 20*time.Second, time.Millisecond)
	before := renewals()
	require.Eventually(t, func() bool { return renewals() > before+3 }, 20*time.Second, time.Millisecond)
	require.Equal(t, w.opts.LogKeys, w.v.keys.Load().Keys)
	said := func() (seq events.Seq) { // what it acknowledged
		asked, acks, _ := w.hub.Heard()
		for _, r := range asked {
			seq = max(seq, r.Seq)
		}
		for _, a := range acks {
			seq = max(seq, a.Seq)
		}
		return seq
	}
	require.Less(t, said(), w.last.Seq, "what it does not believe is not confirmed")

	hub.head.Store(nil)
	first := events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:]) // that the log was opened with
	believed := func(want ...events.PublicKey) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) { require.Equal(c, want, w.v.keys.Load().Keys) }, 20*time.Second, time.Millisecond)
	}
	believed(first, pinned, forged)
	require.Eventually(t, func() bool { return said() == w.last.Seq }, 20*time.Second, time.Millisecond)
	w.commit(events.Event{Fact: &events.SigningKeyRetired{SigningKey: forged}}, events.Event{Fact: &events.SigningKeyRetired{SigningKey: first}})
	believed(pinned)
	kept := &trust{Pinned: w.opts.LogKeys, Keys: []events.PublicKey{pinned}}
	require.Equal(t, kept, kept.goOn(w.opts.LogKeys), "the next process goes on with it")
	require.Equal(t, []events.PublicKey{forged}, kept.goOn([]events.PublicKey{forged}).Keys, "unless it is told otherwise")

	w.commit(events.Event{Fact: &events.SigningKeyAdded{SigningKey: first}}, events.Event{Fact: &events.SigningKeyRetired{SigningKey: pinned}})
	before = renewals()
	require.Eventually(t, func() bool { return renewals() > before+3 }, 20*time.Second, time.Millisecond)
	require.Equal(t, kept.Keys, w.v.keys.Load().Keys, "whoever signs and is not named has nothing to teach")
}
