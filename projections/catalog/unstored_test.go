package catalog

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

// TestStoredInTime: without anybody who reads, what was committed is stored after so many commits, and nothing leads to it from then on.
func TestStoredInTime(t *testing.T) {
	c, err := Open("catalog", Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	admin := events.Admin{}.Plain()
	say := []events.Event{{Fact: &events.LogOpened{Incarnation: events.Incarnation{1}}, Admin: admin}}
	txn := c.Begin(1, 1, 5)
	for n := events.Seq(1); n <= 5*storeLayers; n++ {
		require.NoError(t, txn.Fold(say...))
		commit := &events.Commit{Schema: 1, Incarnation: events.Incarnation{1}, First: n, Parent: c.Position().Chain, Time: 5}
		require.NoError(t, commit.Add(say...))
		behind := txn.Next(5)
		require.NoError(t, txn.Commit(events.Entry{Commit: commit, Chain: events.ChainHash{byte(n)}, StreamSeq: uint64(n)}))
		require.Less(t, len(c.unstored.all()), 2*storeLayers)
		txn = behind
		say = []events.Event{{Project: "acme", Fact: &events.ProjectOpened{}, Admin: admin}}
	}
	c.background.Wait()
	require.NoError(t, c.store())
	require.Nil(t, txn.pending.held().under.held())
	require.Empty(t, c.unstored.all())
	require.Zero(t, c.unstored.fill())
	require.NoError(t, c.Close())
}
