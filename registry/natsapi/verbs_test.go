package natsapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

// packed writes a value as msgpack with the names and texts that it has in JSON, as a client in another language would.
func packed(t testing.TB, v any) []byte {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(jsonOf(t, v))))
	dec.UseNumber()
	var fields map[string]any
	require.NoError(t, dec.Decode(&fields))
	for name, value := range fields {
		if n, ok := value.(json.Number); ok {
			if whole, err := n.Int64(); err == nil {
				fields[name] = whole
			} else {
				var beyond uint64
				require.NoError(t, json.Unmarshal([]byte(n), &beyond))
				fields[name] = beyond
			}
		}
	}
	data, err := msgpack.Marshal(fields)
	require.NoError(t, err)
	return data
}

// script uses every verb once, in an order in which each succeeds.
func script() []registry.Command {
	llama, other := []string{"llama"}, []string{"mistral"}
	text, upstream, never, soon, now := "for the demo", "http://127.0.0.1:9000", "never", "2031-01-31", "0"
	digest := strings.Repeat("ab", 32)
	rev := uint64(1)
	step := func(v registry.Verb, r registry.Request) registry.Command {
		return registry.Command{Verb: v, Request: r}
	}
	return []registry.Command{
		step(registry.DeploymentRegister, registry.Request{Name: "llama", CommandID: "c1"}),
		step(registry.DeploymentRegister, registry.Request{Name: "mistral", CommandID: "c2"}),
		step(registry.DeploymentEdit, registry.Request{Name: "llama", Upstream: &upstream, CommandID: "c3"}),
		step(registry.DeploymentGet, registry.Request{Name: "llama"}),
		step(registry.DeploymentList, registry.Request{}),
		step(registry.KeyCreate, registry.Request{Name: "demo-key", Deployments: &llama, Digest: digest, Hint: "kf_aaaa…zzzz", ExpiresAt: &soon, CommandID: "c4"}),
		step(registry.KeyEdit, registry.Request{Key: "demo-key", Description: &text, ExpectRev: &rev, CommandID: "c5"}),
		step(registry.KeyAttach, registry.Request{Key: "demo-key", Deployments: &other, CommandID: "c6"}),
		step(registry.KeyDetach, registry.Request{Key: "demo-key", Deployments: &llama, Wait: "confirmed", CommandID: "c7"}),
		step(registry.KeyExpire, registry.Request{Key: "demo-key", ExpiresAt: &never, CommandID: "c8"}),
		step(registry.KeyDisable, registry.Request{Key: "demo-key", CommandID: "c9"}),
		step(registry.KeyEnable, registry.Request{Key: "demo-key", WaitTimeout: "5s", CommandID: "c10"}),
		step(registry.KeyIdentify, registry.Request{Digest: digest}),
		step(registry.KeyRotate, registry.Request{Key: "demo-key", Grace: &now, Digest: strings.Repeat("cd", 32), Hint: "kf_bbbb…yyyy", CommandID: "c11"}),
		step(registry.KeyGet, registry.Request{Key: "demo-key"}),
		step(registry.KeyList, registry.Request{Limit: 10, Search: "DEMO"}),
		step(registry.KeyHistory, registry.Request{Key: "demo-key", Limit: 3}),
		step(registry.KeyDelete, registry.Request{Key: "demo-key", CommandID: "c12"}),
		step(registry.DeploymentRemove, registry.Request{Name: "llama", CommandID: "c13"}),
		step(registry.ProjectList, registry.Request{}),
		step(registry.FleetLease, registry.Request{Lease: "5m", CommandID: "c14"}),
		step(registry.FleetAddSigningKey, registry.Request{SigningKey: digest, CommandID: "c15"}),
		step(registry.FleetRetireSigningKey, registry.Request{SigningKey: digest, CommandID: "c16"}),
		step(registry.FleetStatus, registry.Request{}),
		step(registry.FleetConfirm, registry.Request{Seq: 3}),
		step(registry.FleetCheckpoint, registry.Request{}),
	}
}

// replyTo is what the registry answers a verb with.
func replyTo(v registry.Verb) any {
	switch v {
	case registry.KeyList:
		return &registry.KeyPage{}
	case registry.KeyHistory:
		return &registry.HistoryPage{}
	case registry.DeploymentList:
		return &registry.DeploymentPage{}
	case registry.ProjectList:
		return &registry.ProjectPage{}
	case registry.FleetLease:
		return &registry.FleetReply{}
	case registry.FleetStatus:
		return &registry.FleetView{}
	case registry.FleetCheckpoint:
		return &registry.CheckpointReply{}
	case registry.FleetConfirm:
		return &registry.ReceiptReply{}
	case registry.DeploymentRegister, registry.DeploymentEdit, registry.DeploymentGet, registry.DeploymentRemove:
		return &registry.DeploymentReply{}
	default:
		return &registry.KeyReply{}
	}
}

// TestEveryVerb plays the script, and then asks for each answer again, in both encodings: one is the other in other
// bytes, and both are what the client decodes into the registry's own types.
func TestEveryVerb(t *testing.T) {
	server := startServer(t)
	<-startHub(t, server, "hub").opened
	nc := server.Connect()
	client := natsapi.NewClient(nc, "acme", "alice")
	used := map[registry.Verb]bool{registry.FleetRelease: true} // takes an instance to release: TestFleet
	for _, c := range script() {
		used[c.Verb] = true
		reply := replyTo(c.Verb)
		require.NoError(t, client.Do(patiently(t), c.Verb, c.Request, reply), c.Verb)

		subject := "keyfleet.cmd.acme.alice." + string(c.Verb)
		if fleetWide, ok := strings.CutPrefix(string(c.Verb), "fleet."); ok {
			subject = "keyfleet.fleet.alice." + fleetWide
		}
		plain, err := nc.Request(subject, jsonOf(t, c.Request), 20*time.Second)
		require.NoError(t, err)
		require.Empty(t, plain.Header.Get(micro.ErrorCodeHeader), "%s", plain.Data)
		binary, err := nc.RequestMsg(&nats.Msg{Subject: subject, Data: packed(t, c.Request),
			Header: nats.Header{"Content-Type": {"application/msgpack"}}}, 20*time.Second)
		require.NoError(t, err)
		assert.Equal(t, "application/msgpack", binary.Header.Get("Content-Type"))
		var fields any
		require.NoError(t, msgpack.Unmarshal(binary.Data, &fields))
		assert.JSONEq(t, string(plain.Data), string(jsonOf(t, fields)), c.Verb)

		again := replyTo(c.Verb)
		dec := json.NewDecoder(strings.NewReader(string(plain.Data)))
		dec.DisallowUnknownFields()
		require.NoError(t, dec.Decode(again), c.Verb)
		if c.Verb.IsQuery() {
			assert.Equal(t, reply, again, c.Verb)
		} else {
			assert.Contains(t, string(plain.Data), `"replayed":true`, "one effect per command id: %s", c.Verb)
		}
	}
	for _, v := range registry.Verbs() {
		assert.True(t, used[v], v)
	}
}

// TestRepeatedCommandID: who sends a command again gets what it made, and another under the same id is a conflict.
func TestRepeatedCommandID(t *testing.T) {
	server := startServer(t)
	<-startHub(t, server, "hub").opened
	client := natsapi.NewClient(server.Connect(), "acme", "alice")
	var made, again registry.KeyReply
	create := registry.Request{Name: "demo-key", CommandID: "c1"}
	require.NoError(t, client.Do(patiently(t), registry.KeyCreate, create, &made))
	require.NoError(t, client.Do(patiently(t), registry.KeyCreate, create, &again))
	assert.NotEmpty(t, made.Secret)
	assert.Empty(t, again.Secret, "a secret appears once")
	assert.True(t, again.Replayed)
	assert.Equal(t, made.KeyView, again.KeyView)
	err := client.Do(patiently(t), registry.KeyCreate, registry.Request{Name: "other", CommandID: "c1"}, nil)
	requireRefusal(t, registry.Conflict, "c1", err)
	other := natsapi.NewClient(server.Connect(), "acme", "bob")
	require.NoError(t, other.Do(patiently(t), registry.KeyDelete, registry.Request{Key: "demo-key", CommandID: "c1"}, nil),
		"ids are each actor's own")
}
