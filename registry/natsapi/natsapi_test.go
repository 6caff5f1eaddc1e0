package natsapi_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// hub is a whole registry on a real server.
type hub struct {
	svc    *registry.Service
	nc     *nats.Conn
	opened chan registry.TermOpened
	stop   func()
}

func startServer(t testing.TB) *eventlogtest.Server {
	server := eventlogtest.StartServer(t)
	_, err := eventlog.Init(t.Context(), server.Connect(), eventlog.InitOptions{
		Actor: "test", SigningKey: events.PublicKey(eventlogtest.SigningKey[ed25519.SeedSize:]),
	})
	require.NoError(t, err)
	return server
}

func startHub(t testing.TB, server *eventlogtest.Server, name string) *hub {
	nc := server.Connect()
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: server.SyncAlways})
	require.NoError(t, err)
	cat, err := catalog.Open(t.TempDir(), catalog.Options{})
	require.NoError(t, err)
	election, err := natsapi.NewElection(t.Context(), nc, natsapi.ElectionOptions{Name: name})
	require.NoError(t, err)
	h := &hub{nc: nc, opened: make(chan registry.TermOpened, 16)}
	h.svc = registry.NewService(log, cat, election, registry.Options{Name: name, SigningKey: eventlogtest.SigningKey, Observe: func(e registry.Event) {
		if opened, ok := e.(registry.TermOpened); ok {
			h.opened <- opened
		}
	}})
	api, err := natsapi.Serve(nc, h.svc, "0.0.0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.svc.Run(ctx) }()
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			_ = api.Close() // its connection may be gone
			require.NoError(t, cat.Close())
		})
	}
	t.Cleanup(h.stop)
	return h
}

// TestStockClient sends what a newcomer types with the nats command.
func TestStockClient(t *testing.T) {
	server := startServer(t)
	<-startHub(t, server, "hub").opened
	nc := server.Connect()
	request := func(subject, body string) (reply map[string]any, header nats.Header) {
		t.Helper()
		answer, err := nc.Request("keyfleet.cmd.acme.alice."+subject, []byte(body), 10*time.Second)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(answer.Data, &reply), string(answer.Data))
		return reply, answer.Header
	}
	reply, _ := request("deployment.register", `{"name":"llama"}`)
	assert.Equal(t, "llama", reply["name"])
	reply, _ = request("key.create", `{"name":"demo-key","deployments":["llama"]}`)
	assert.Equal(t, "demo-key", reply["name"])
	assert.Equal(t, []any{"llama"}, reply["deployment_names"])
	assert.Nil(t, reply["expires_at"])
	assert.Regexp(t, `^kf_[0-9A-Za-z]{49}$`, reply["secret"])
	assert.Regexp(t, `^key_[0-9a-z]{26}$`, reply["id"])
	assert.EqualValues(t, 5, reply["seq"])
	assert.Equal(t, map[string]any{"state": "recorded"}, reply["confirmation"])

	for _, c := range []struct{ subject, body, code, says string }{
		{"key.create", `{"name":"demo-key"}`, "name_taken", "exists already"},
		{"key.get", `{"key":"nobody"}`, "not_found", "keyfleet keys list"},
		{"key.edit", `{"key":"demo-key","expect_rev":7}`, "conflict", "revision 1"},
		{"key.create", `{"name":"demo-key","colour":"red"}`, "invalid", "colour"},
		{"key.create", `{"name":17}`, "invalid", "name is a text"},
		{"key.create", `{"name":"demo-key"} {}`, "invalid", "behind"},
		{"key.create", `[]`, "invalid", "JSON object"},
		{"key.create", `{"name":"\n"}`, "invalid", "4 to 63"},
		{"key.create", `{"name":"` + strings.Repeat("x", 300<<10) + `"}`, "invalid", "at most"},
	} {
		body, header := request(c.subject, c.body)
		assert.Equal(t, c.code, header.Get(micro.ErrorCodeHeader), c.body)
		assert.Contains(t, header.Get(micro.ErrorHeader), c.says)
		assert.Equal(t, c.code, body["code"])
	}
	answer, err := nc.Request("keyfleet.cmd._admin.alice.key.list", nil, 10*time.Second)
	require.NoError(t, err)
	assert.Equal(t, "forbidden", answer.Header.Get(micro.ErrorCodeHeader))

	answer, err = nc.Request("$SRV.INFO.keyfleet", nil, 10*time.Second)
	require.NoError(t, err)
	var info micro.Info
	require.NoError(t, json.Unmarshal(answer.Data, &info))
	assert.Len(t, info.Endpoints, len(registry.Verbs()))
	for _, e := range info.Endpoints {
		assert.Empty(t, e.QueueGroup, "a frozen registry must not swallow commands")
	}
}

func TestMsgpack(t *testing.T) {
	server := startServer(t)
	<-startHub(t, server, "hub").opened
	nc := server.Connect()
	request := func(body any, verb string) (reply map[string]any) {
		data, ok := body.([]byte)
		if !ok {
			var err error
			data, err = msgpack.Marshal(body)
			require.NoError(t, err)
		}
		m := &nats.Msg{Subject: "keyfleet.cmd.acme.alice." + verb, Data: data, Header: nats.Header{"Content-Type": {"application/msgpack"}}}
		answer, err := nc.RequestMsg(m, 10*time.Second)
		require.NoError(t, err)
		assert.Equal(t, "application/msgpack", answer.Header.Get("Content-Type"))
		require.NoError(t, msgpack.Unmarshal(answer.Data, &reply))
		return reply
	}
	request(map[string]any{"name": "llama"}, "deployment.register")
	reply := request(map[string]any{"name": "demo-key", "deployments": []string{"llama"}, "expires_at": "2030-01-31"}, "key.create")
	assert.Equal(t, "2030-01-31T00:00:00Z", reply["expires_at"])
	assert.Equal(t, []any{"llama"}, reply["deployment_names"])
	assert.EqualValues(t, 5, reply["seq"])
	reply = request(map[string]any{"limit": 10}, "key.list")
	assert.EqualValues(t, 1, reply["count"])
	for _, hostile := range [][]byte{{0xc1}, {0x81}, {0xdf, 0xff, 0xff, 0xff, 0xff}, {0x81, 0xa1, 'x', 0xdd, 0xff, 0xff, 0xff, 0xff}, {0x81, 0xa1, 'x', 0x81, 0xa1, 'y', 0xc0}, {0x80, 0x80}} {
		assert.Equal(t, "invalid", request(hostile, "key.list")["code"], "%x", hostile)
	}
}

// TestTakeover kills the active registry under load. Clients go on through the other under their command ids.
func TestTakeover(t *testing.T) {
	server := startServer(t)
	first := startHub(t, server, "first")
	<-first.opened
	second := startHub(t, server, "second")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const callers, each = 64, 10
	nc := server.Connect() // one for all
	seqs := make([][]uint64, callers)
	var wg sync.WaitGroup
	halfway := make(chan struct{}, callers)
	for i := range callers {
		c := natsapi.NewClient(nc, "acme", fmt.Sprintf("actor-%d", i))
		wg.Go(func() {
			for j := range each {
				if j == each/2 {
					halfway <- struct{}{}
				}
				var reply registry.KeyReply
				err := c.Do(ctx, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("key-%d-%d", i, j)}, &reply)
				if !assert.NoError(t, err) {
					return
				}
				seqs[i] = append(seqs[i], uint64(reply.Seq))
			}
		})
	}
	<-halfway
	first.nc.Close() // as a cut would
	wg.Wait()
	opened := <-second.opened
	seen := map[uint64]bool{}
	for _, mine := range seqs {
		for _, s := range mine {
			assert.False(t, seen[s], "Seq %d twice", s)
			seen[s] = true
		}
	}
	assert.Len(t, seen, callers*each)
	assert.Greater(t, opened.Term, uint64(1))
	var list registry.KeyPage
	require.NoError(t, natsapi.NewClient(server.Connect(), "acme", "alice").Do(ctx, registry.KeyList, registry.Request{Limit: 1}, &list))
	assert.Equal(t, callers*each, list.Count, "nothing lost, nothing twice")
}
