package eventlog_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

func TestAMirrorIsNotMadeWhereItHasNoRoom(t *testing.T) {
	s := eventlogtest.StartServer(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 30 })
	err := eventlog.CreateMirror(t.Context(), s.Connect(), "ams", 4<<30)
	require.ErrorContains(t, err, "no room for the 4294967296 bytes")
	_, err = eventlog.Open(t.Context(), s.Connect(), eventlog.Options{Mirror: true})
	require.ErrorIs(t, err, eventlog.ErrNoLog)
}
