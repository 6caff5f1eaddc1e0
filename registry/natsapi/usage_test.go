package natsapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
)

// takeUsage has the hub's registry add usage up until it is told to stop, or the test ends.
func (h *hub) takeUsage(t *testing.T) (stop func()) {
	t.Helper()
	u, err := natsapi.NewUsage(h.nc, h.svc, natsapi.UsageOptions{Look: time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	stopHub := h.stop
	h.stop = func() { stop(); stopHub() }
	t.Cleanup(h.stop)
	return stop
}

func usedKey(t *testing.T, client *natsapi.Client, uses uint64) registry.KeyReply {
	t.Helper()
	var key registry.KeyReply
	require.Eventually(t, func() bool {
		require.NoError(t, client.Do(patiently(t), registry.KeyGet, registry.Request{Key: "demo-key"}, &key))
		return key.Uses >= uses
	}, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, uses, key.Uses)
	return key
}

// What verifiers counted is in the key's own reply, of the active registry and of the one that takes over from it.
func TestUsesReachBothRegistries(t *testing.T) {
	server := startServer(t)
	first := startHub(t, server, "hub-1")
	<-first.opened
	first.takeUsage(t)
	client := natsapi.NewClient(server.Connect(), "acme", "alice")
	require.NoError(t, client.Do(patiently(t), registry.DeploymentRegister, registry.Request{Name: "llama"}, nil))
	var made registry.KeyReply
	require.NoError(t, client.Do(patiently(t), registry.KeyCreate, registry.Request{Name: "demo-key", Deployments: &[]string{"llama"}}, &made))
	require.Zero(t, made.Uses)
	require.Nil(t, made.LastUsedAt)
	began := events.InstantOf(time.Now())
	for i, name := range []string{"fra-1", "ams-1"} {
		v, stop := startVerifier(t, server, name)
		for range 50 {
			ask := verifier.Request{Project: "acme", Deployment: "llama", Key: []byte(made.Secret), MinSeq: made.Seq}
			require.True(t, v.Check(t.Context(), ask).Allowed())
		}
		if i == 1 {
			stop() // hands on at once
		}
	}
	used := usedKey(t, client, 100)
	require.GreaterOrEqual(t, *used.LastUsedAt, began)
	require.LessOrEqual(t, *used.LastUsedAt, events.InstantOf(time.Now()))
	second := startHub(t, server, "hub-2") // whose catalog is empty: it must not add up before it knows the key
	second.takeUsage(t)
	first.stop()
	<-second.opened
	require.Equal(t, *used.LastUsedAt, *usedKey(t, client, 100).LastUsedAt)
}

// What is counted while the hub is away is reported once it is back.
func TestUsesOutliveAnOutage(t *testing.T) {
	server := startServer(t)
	h := startHub(t, server, "hub")
	<-h.opened
	h.takeUsage(t)
	client := natsapi.NewClient(server.Connect(), "acme", "alice")
	require.NoError(t, client.Do(patiently(t), registry.DeploymentRegister, registry.Request{Name: "llama"}, nil))
	var made registry.KeyReply
	require.NoError(t, client.Do(patiently(t), registry.KeyCreate, registry.Request{Name: "demo-key", Deployments: &[]string{"llama"}}, &made))
	v, _ := startVerifier(t, server, "fra-1")
	ask := verifier.Request{Project: "acme", Deployment: "llama", Key: []byte(made.Secret), MinSeq: made.Seq}
	check := func(times int) {
		for range times {
			require.True(t, v.Check(t.Context(), ask).Allowed())
		}
	}
	check(20)
	server.Stop() // whatever is on its way
	check(30)
	server.Start()
	check(50)
	usedKey(t, client, 100)
}

// Whatever somebody with a verifier's credentials puts into the stream, the counts of others go on.
func TestHostileUsageIsPassedOver(t *testing.T) {
	server := startServer(t)
	h := startHub(t, server, "hub")
	<-h.opened
	stop := h.takeUsage(t)
	nc := server.Connect()
	client := natsapi.NewClient(nc, "acme", "alice")
	var made registry.KeyReply
	require.NoError(t, client.Do(patiently(t), registry.KeyCreate, registry.Request{Name: "demo-key"}, &made))
	id, err := events.ParseKeyID(made.ID)
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	put := func(verifier string, b usage.Batch) {
		t.Helper()
		data, err := b.Encode()
		require.NoError(t, err)
		require.Eventually(t, func() bool { // once the registry has made the stream
			_, err := js.Publish(t.Context(), "keyfleet.usage."+verifier, data, jetstream.WithRetryAttempts(0))
			return err == nil
		}, 20*time.Second, 5*time.Millisecond)
	}
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true})
	require.NoError(t, err)
	last, err := log.Last(t.Context())
	require.NoError(t, err)
	good := usage.Batch{Incarnation: last.Commit.Incarnation, Seq: made.Seq, Run: usage.Run{1}, Number: 1,
		Counts: []usage.Count{{Key: id, Uses: 7, Last: 1_800_000_000_000}}}
	put("fra-1", good)
	usedKey(t, client, 7)
	ahead, other, nothing := good, good, usage.Batch{}
	ahead.Number, ahead.Seq = 2, 1<<62
	other.Number, other.Incarnation = 3, events.Incarnation{9}
	for _, b := range []usage.Batch{ahead, other, nothing, good} {
		put("fra-1", b)
	}
	put("_FRA", good)
	_, err = js.Publish(t.Context(), "keyfleet.usage.fra-1", []byte("{}"))
	require.NoError(t, err)
	good.Number = 4
	put("fra-1", good)
	usedKey(t, client, 14)

	// A stream that was made anew, as after a loss, is read from its beginning. A server that is asked for a stream while it
	// deletes it may make one that never answers, so nobody asks meanwhile.
	stop()
	require.NoError(t, js.DeleteStream(t.Context(), usage.StreamName))
	h.takeUsage(t)
	good.Number = 5
	put("fra-1", good)
	usedKey(t, client, 21)
}
