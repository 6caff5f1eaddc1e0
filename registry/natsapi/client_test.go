package natsapi_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// patiently bounds what ought to come much sooner.
func patiently(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func requireRefusal(t *testing.T, code registry.Code, says string, err error) {
	t.Helper()
	var refusal *registry.Refusal
	require.ErrorAs(t, err, &refusal)
	assert.Equal(t, code, refusal.Code, refusal.Message)
	assert.Contains(t, refusal.Message, says)
}

// TestClientRepeats: until a registry answers, the client sends the same command under the same id.
func TestClientRepeats(t *testing.T) {
	server := eventlogtest.StartServer(t)
	var mu sync.Mutex
	var ids []string
	d := &desk{do: func(_ context.Context, c registry.Command) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		if ids = append(ids, c.Request.CommandID); len(ids) < 3 {
			return nil, &registry.Refusal{Code: registry.Unavailable, Message: "a moment please"}
		}
		return &registry.KeyReply{Secret: "for alice"}, nil
	}}
	d.serve(t, server.Connect())
	c := natsapi.NewClient(server.Connect(), "acme", "alice")
	var reply registry.KeyReply
	require.NoError(t, c.Do(patiently(t), registry.KeyCreate, registry.Request{Name: "demo-key"}, &reply))
	assert.Equal(t, "for alice", reply.Secret)
	require.Len(t, ids, 3)
	assert.NotEmpty(t, ids[0])
	assert.Equal(t, []string{ids[0], ids[0]}, ids[1:])

	require.NoError(t, c.Do(patiently(t), registry.KeyDelete, registry.Request{Key: "demo-key", CommandID: "mine"}, nil))
	require.NoError(t, c.Do(patiently(t), registry.KeyGet, registry.Request{Key: "demo-key"}, nil))
	assert.Equal(t, []string{"mine", ""}, ids[3:], "the caller's own id is kept, and queries need none")
}

func TestClientGivesUp(t *testing.T) {
	s := eventlogtest.StartServer(t)
	nc := s.Connect()
	c := natsapi.NewClient(nc, "acme", "alice")
	try := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return c.Do(ctx, registry.KeyDelete, registry.Request{Key: "demo-key", CommandID: "mine"}, nil)
	}
	err := try()
	requireRefusal(t, registry.Unavailable, "no registry answers", err)
	requireRefusal(t, registry.Unavailable, s.ClientURL(), err)
	requireRefusal(t, registry.Unavailable, "its command id is mine", err)

	d := &desk{do: func(context.Context, registry.Command) (any, error) {
		return nil, &registry.Refusal{Code: registry.Unavailable, Message: "a moment please"}
	}}
	d.serve(t, s.Connect())
	requireRefusal(t, registry.Unavailable, "a moment please", try())
	d.standby.Store(true)
	requireRefusal(t, registry.Unavailable, "no registry answers", try())
	s.Stop()
	err = try()
	requireRefusal(t, registry.Unavailable, "the connection is down", err)
	requireRefusal(t, registry.Unavailable, s.ClientURL(), err)
	nc.Close()
	requireRefusal(t, registry.Unavailable, "connect again", c.Do(patiently(t), registry.KeyList, registry.Request{}, nil))
}

// TestClientDoesNotInsist on what sending again cannot change.
func TestClientDoesNotInsist(t *testing.T) {
	var asked int
	d := &desk{do: func(context.Context, registry.Command) (any, error) {
		asked++
		return nil, &registry.Refusal{Code: registry.Conflict, Message: "no:\r\nsomebody was faster", Field: "expect_rev"}
	}}
	s := eventlogtest.StartServer(t, func(o *server.Options) { o.MaxPayload = 32 << 10 })
	d.serve(t, s.Connect())
	nc := s.Connect()
	err := natsapi.NewClient(nc, "acme", "alice").Do(patiently(t), registry.KeyEdit, registry.Request{Key: "demo-key"}, nil)
	assert.Equal(t, &registry.Refusal{Code: registry.Conflict, Message: "no:\r\nsomebody was faster", Field: "expect_rev"}, err)
	assert.Equal(t, 1, asked)

	dotted := natsapi.NewClient(nc, "acme.bob", "key")
	requireRefusal(t, registry.Invalid, "project", dotted.Do(patiently(t), registry.KeyList, registry.Request{}, nil))
	many := make([]string, 4000)
	for i := range many {
		many[i] = fmt.Sprintf("deployment-%d", i)
	}
	err = natsapi.NewClient(nc, "acme", "alice").Do(patiently(t), registry.KeyAttach, registry.Request{Key: "demo-key", Deployments: &many}, nil)
	requireRefusal(t, registry.Invalid, "larger than the NATS server", err)
}

func TestAnswerTooLarge(t *testing.T) {
	s := eventlogtest.StartServer(t, func(o *server.Options) { o.MaxPayload = 4 << 10 })
	d := &desk{do: func(context.Context, registry.Command) (any, error) {
		return &registry.KeyPage{Results: make([]registry.KeyView, 100)}, nil
	}}
	d.serve(t, s.Connect())
	err := natsapi.NewClient(s.Connect(), "acme", "alice").Do(patiently(t), registry.KeyList, registry.Request{}, nil)
	requireRefusal(t, registry.Invalid, "ask for less with limit", err)
}

// TestLongRefusal: what a caller sent may be in a refusal twice and escaped, and the caller hears of it all the same.
func TestLongRefusal(t *testing.T) {
	long := strings.Repeat("é\x01", 300_000)
	s := eventlogtest.StartServer(t)
	d := &desk{do: func(context.Context, registry.Command) (any, error) {
		return nil, &registry.Refusal{Code: registry.NotFound, Message: long, Field: long}
	}}
	d.serve(t, s.Connect())
	err := natsapi.NewClient(s.Connect(), "acme", "alice").Do(patiently(t), registry.KeyGet, registry.Request{Key: "demo-key"}, nil)
	requireRefusal(t, registry.NotFound, "é\x01é", err)
	for _, said := range []string{registry.AsRefusal(err).Message, registry.AsRefusal(err).Field} {
		assert.LessOrEqual(t, len(said), 500)
		assert.Greater(t, len(said), 490)
		assert.True(t, utf8.ValidString(said))
		assert.True(t, strings.HasSuffix(said, "…"))
	}
}

// TestHeadersCount: an answer that fits by itself, and not with its headers.
func TestHeadersCount(t *testing.T) {
	const most = 4 << 10
	s := eventlogtest.StartServer(t, func(o *server.Options) { o.MaxPayload = most })
	d := &desk{do: func(_ context.Context, c registry.Command) (any, error) {
		return strings.Repeat("x", c.Request.Limit), nil
	}}
	d.serve(t, s.Connect())
	nc := s.Connect()
	for size := most - 100; size <= most; size++ {
		_, err := nc.RequestMsg(&nats.Msg{Subject: "keyfleet.cmd.acme.alice.key.get", Data: packed(t, registry.Request{Limit: size}),
			Header: nats.Header{"Content-Type": {"application/msgpack"}}}, 10*time.Second)
		require.NoError(t, err, size)
	}
}

// TestClientIsNotPermitted: the server says so beside the request, and is asked once more at most.
func TestClientIsNotPermitted(t *testing.T) {
	mayPublish := &server.SubjectPermission{Allow: []string{"keyfleet.cmd.acme.alice.>"}}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		Users: []*server.User{{Username: "alice", Password: "pw", Permissions: &server.Permissions{Publish: mayPublish}}},
	})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(20*time.Second))
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("alice", "pw"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	err = natsapi.NewClient(nc, "acme", "bob").Do(patiently(t), registry.KeyList, registry.Request{}, nil)
	requireRefusal(t, registry.Forbidden, "keyfleet.cmd.acme.bob.key.list", err)
}
