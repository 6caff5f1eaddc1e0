package natsapi_test

import (
	"context"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/uplink"
)

// startVerifier runs a verifier until it is stopped, or the test ends.
func startVerifier(t *testing.T, server *eventlogtest.Server, name string) (v *verifier.Verifier, stop func()) {
	t.Helper()
	nc := server.Connect()
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true})
	require.NoError(t, err)
	hub, err := uplink.New(nc, name)
	require.NoError(t, err)
	caughtUp := make(chan struct{}, 16)
	v, err = verifier.Open(t.TempDir(), verifier.Options{
		Source: log, Uplink: hub, Reports: hub, ReportEvery: 10 * time.Millisecond, Name: name, PoP: "pop-of-" + name, CacheBytes: 1 << 20,
		LogKeys: []events.PublicKey{events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:])},
		Listen: func(e verifier.Event) {
			if _, ok := e.(verifier.CaughtUp); ok {
				caughtUp <- struct{}{}
			}
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-ended)
			require.NoError(t, v.Close())
		}
	}
	t.Cleanup(stop)
	<-caughtUp
	return v, stop
}

// A deletion that is confirmed is dead at every verifier, from the first check on.
func TestConfirmedOverNATS(t *testing.T) {
	server := startServer(t)
	<-startHub(t, server, "hub").opened
	client := natsapi.NewClient(server.Connect(), "acme", "alice")
	var fleet []*verifier.Verifier
	var stops []func()
	for _, name := range []string{"fra-1", "ams-1", "nrt-1"} {
		v, stop := startVerifier(t, server, name)
		fleet, stops = append(fleet, v), append(stops, stop)
	}
	require.NoError(t, client.Do(patiently(t), registry.DeploymentRegister, registry.Request{Name: "llama"}, nil))
	for range 20 {
		var made, gone registry.KeyReply
		require.NoError(t, client.Do(patiently(t), registry.KeyCreate,
			registry.Request{Name: "demo-key", Deployments: &[]string{"llama"}, Wait: registry.WaitConfirmed}, &made))
		require.Equal(t, "confirmed", made.Confirmation.State)
		require.Equal(t, 3, made.Confirmation.Acked)
		ask := verifier.Request{Project: "acme", Deployment: "llama", Key: []byte(made.Secret)}
		for _, v := range fleet {
			require.Equal(t, projections.Allowed, v.Check(t.Context(), ask).Reason)
		}
		require.NoError(t, client.Do(patiently(t), registry.KeyDelete, registry.Request{Key: "demo-key", Wait: registry.WaitConfirmed}, &gone))
		require.Equal(t, "confirmed", gone.Confirmation.State)
		for _, v := range fleet {
			require.Equal(t, projections.Unknown, v.Check(t.Context(), ask).Reason)
		}
	}
	stops[0]()
	var view registry.FleetView
	require.NoError(t, client.Do(patiently(t), registry.FleetStatus, registry.Request{}, &view))
	require.Len(t, view.Verifiers, 2, "a clean stop said goodbye")
}

// Members outlive the registry that they joined, and its successor grants on without a new registration.
func TestMembersGoOnWithTheNextRegistry(t *testing.T) {
	server := startServer(t)
	first := startHub(t, server, "hub-1")
	<-first.opened
	v, _ := startVerifier(t, server, "fra-1")
	was := v.Status().Instance
	second := startHub(t, server, "hub-2")
	first.stop()
	<-second.opened
	client := natsapi.NewClient(server.Connect(), "acme", "alice")
	var made registry.KeyReply
	require.NoError(t, client.Do(patiently(t), registry.KeyCreate, registry.Request{Name: "demo-key", Wait: registry.WaitConfirmed}, &made))
	require.Equal(t, "confirmed", made.Confirmation.State)
	require.Equal(t, 1, made.Confirmation.Verifiers)
	require.Equal(t, was, v.Status().Instance)
}

func TestWhatIsNoRenewalIsRefused(t *testing.T) {
	server := startServer(t)
	<-startHub(t, server, "hub").opened
	nc := server.Connect()
	for body, code := range map[string]registry.Code{
		"":                       registry.Invalid,
		"[]":                     registry.Invalid,
		`{"instance":17}`:        registry.Invalid,
		`{"instance":"ins_"}`:    registry.Invalid,
		`{"nonce":"00"}`:         registry.Invalid,
		`{"newest":17}`:          registry.Invalid,
		`{}`:                     registry.Stranger,
		`{"join":{}}`:            registry.Stranger,
		`{"goodbye":{}}`:         "",
		`{"seq":99999999999999}`: registry.Stranger,
	} {
		answer, err := nc.Request("keyfleet.lease.fra-1", []byte(body), 10*time.Second)
		require.NoError(t, err, body)
		assert.Equal(t, string(code), answer.Header.Get(micro.ErrorCodeHeader), body)
	}
	_, err := nc.Request("keyfleet.lease.fra-1", []byte(strings.Repeat("x", 10_000)), 200*time.Millisecond)
	require.Error(t, err, "too long to be one")
	for _, reply := range []string{"keyfleet.log", "keyfleet.cmd.acme.alice.key.list", "$JS.API.STREAM.LIST"} {
		heard, err := nc.SubscribeSync(reply)
		require.NoError(t, err)
		require.NoError(t, nc.PublishRequest("keyfleet.lease.fra-1", reply, []byte("{}")))
		_, err = nc.Request("keyfleet.lease.fra-1", []byte("{}"), 10*time.Second) // and so the one before was handled
		require.NoError(t, err)
		_, err = heard.NextMsg(50 * time.Millisecond)
		require.Error(t, err, "nobody makes the registry publish at %s", reply)
	}
	for _, ack := range []string{"", "[]", `{"instance":"ins_00000000000000000000000001","seq":1}`} {
		require.NoError(t, nc.Publish("keyfleet.ack.fra-1", []byte(ack)))
	}
	_, err = uplink.New(nc, "a.b")
	require.ErrorContains(t, err, "name")
}
