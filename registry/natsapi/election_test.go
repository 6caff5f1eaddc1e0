package natsapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

func stand(t *testing.T, nc *nats.Conn, name string, c clock.Clock) *natsapi.Election {
	e, err := natsapi.NewElection(t.Context(), nc, natsapi.ElectionOptions{Name: name, Clock: c})
	require.NoError(t, err)
	return e
}

func win(t *testing.T, e *natsapi.Election) registry.Leadership {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := e.Win(ctx)
	require.NoError(t, err)
	return l
}

func TestResignLetsAnotherWin(t *testing.T) {
	server := eventlogtest.StartServer(t)
	a, b := stand(t, server.Connect(), "a", nil), stand(t, server.Connect(), "b", nil)
	first := win(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := b.Win(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "while the first keeps renewing")
	require.Greater(t, first.SelfLease(), clock.System{}.Elapsed())
	first.Resign()
	assert.Zero(t, first.SelfLease())
	second := win(t, b)
	assert.Greater(t, second.Revision(), first.Revision())
	first.Resign() // says nothing a second time
	second.Resign()
}

// TestFrozen: a registry that slept past its self-lease never renews again, and another is elected.
func TestFrozen(t *testing.T) {
	server := eventlogtest.StartServer(t)
	frozen := clock.NewManual(time.Now())
	first := win(t, stand(t, server.Connect(), "a", frozen))
	frozen.Advance(time.Hour)
	second := win(t, stand(t, server.Connect(), "b", nil))
	assert.Less(t, first.SelfLease(), frozen.Elapsed())
	first.Resign() // the key is the other's now: it stays
	third := stand(t, server.Connect(), "c", nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := third.Win(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	second.Resign()
}

func TestCutOff(t *testing.T) {
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	first := win(t, stand(t, nc, "a", nil))
	nc.Close()
	second := win(t, stand(t, server.Connect(), "b", nil))
	assert.LessOrEqual(t, first.SelfLease(), clock.System{}.Elapsed(), "before another is elected, the first has stopped believing")
	second.Resign()
	first.Resign()
}
