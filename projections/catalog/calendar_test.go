package catalog_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// TestCalendar: what falls due is told across restarts, as soon as it is written, and not any more once it is over; NextDue never
// gives an instant behind the first one's.
func TestCalendar(t *testing.T) {
	fs := vfs.NewMem()
	c, w := withKeys(t, fs)
	expire := func(key byte, rev uint64, at events.Instant) {
		w.append(c, events.Event{Project: "acme", Subject: [16]byte{key}, Rev: rev,
			Fact: &events.ExpiryChanged{ExpiresAt: at}, Admin: events.Admin{}.Plain()})
	}
	next := func(now events.Instant) events.Instant {
		at, err := c.NextDue(now)
		require.NoError(t, err)
		return at
	}
	due := func(now events.Instant) (keys []byte) {
		p := c.Position()
		txn := c.Begin(p.Seq+1, p.StreamSeq+1, now)
		all, err := txn.Due(now, 10)
		require.NoError(t, err)
		for _, d := range all {
			require.Equal(t, catalog.ExpiryDue, d.Kind)
			keys = append(keys, d.Key[0])
		}
		return keys
	}
	require.Equal(t, events.Never, next(w.now))
	require.Empty(t, due(w.now))

	expire(keyA, 2, w.now+1000)
	require.Equal(t, w.now+1000, next(w.now))
	require.Empty(t, due(w.now+999))
	require.Equal(t, []byte{keyA}, due(w.now+1000))

	require.NoError(t, c.Close())
	c = open(t, fs)
	require.Equal(t, []byte{keyA}, due(w.now+1000), "before anybody has asked what comes next")
	require.Equal(t, w.now+1000, next(w.now))
	require.Equal(t, []byte{keyA}, due(w.now+1000), "and after")

	expire(keyB, 2, w.now+500)
	require.Equal(t, w.now+500, next(w.now), "earlier than the first one so far")
	require.Equal(t, []byte{keyB, keyA}, due(w.now+2000))

	expire(keyB, 3, events.Never)
	require.LessOrEqual(t, next(w.now), w.now+1000)
	require.Equal(t, w.now+1000, next(w.now+500), "what was removed counts no more once its instant has come")
	expire(keyA, 3, events.Never)
	require.Equal(t, events.Never, next(w.now+1000))
	require.Empty(t, due(w.now+5000))
	require.NoError(t, c.Close())
}
