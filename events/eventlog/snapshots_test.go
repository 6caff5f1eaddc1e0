package eventlog_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

func TestSnapshotsAreKeptBesideTheLog(t *testing.T) {
	server := eventlogtest.StartServer(t)
	reader, err := eventlog.ReadSnapshots(server.Connect(), false)
	require.NoError(t, err)
	names, err := reader.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, names, "a store that nobody has made yet is empty")
	_, err = reader.Get(t.Context(), "table-1")
	require.Error(t, err)

	keeper, err := eventlog.KeepSnapshots(t.Context(), server.Connect(), 1)
	require.NoError(t, err)
	names, err = keeper.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
	require.NoError(t, keeper.Delete(t.Context(), "table-1"), "what is not there is deleted")

	table := make([]byte, 1<<20+1)
	_, _ = rand.Read(table)
	require.NoError(t, keeper.Put(t.Context(), "table-1", bytes.NewReader(table)))
	require.NoError(t, keeper.Put(t.Context(), "table-2", strings.NewReader("")))
	require.NoError(t, keeper.Put(t.Context(), "table-2", strings.NewReader("replaced")))
	server.Stop()
	server.Start()
	names, err = reader.List(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"table-1", "table-2"}, names)
	for name, want := range map[string]string{"table-1": string(table), "table-2": "replaced"} {
		r, err := reader.Get(t.Context(), name)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, want, string(got), name)
		require.NoError(t, r.Close())
	}
	require.NoError(t, keeper.Delete(t.Context(), "table-1"))
	names, err = keeper.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"table-2"}, names)
	_, err = reader.Get(t.Context(), "table-1")
	require.ErrorIs(t, err, jetstream.ErrObjectNotFound)
	_, err = reader.Get(t.Context(), "table-3")
	require.ErrorIs(t, err, jetstream.ErrMsgNotFound)
}
