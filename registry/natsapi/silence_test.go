package natsapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// desk is a registry in so far as package natsapi sees one.
type desk struct {
	standby atomic.Bool
	asked   atomic.Int64 // how often whether it is active

	together atomic.Int64 // how often several commands
	do       func(context.Context, registry.Command) (any, error)
}

func (d *desk) Active() (uint64, bool) {
	active := !d.standby.Load()
	d.asked.Add(1)
	return 1, active
}

func (d *desk) Do(ctx context.Context, c registry.Command) (any, error) { return d.do(ctx, c) }

func (d *desk) DoAll(ctx context.Context, cmds []registry.Command, answer func(int, any, error)) {
	type done struct {
		reply any
		err   error
	}
	if len(cmds) > 1 {
		d.together.Add(1)
	}
	under := make([]chan done, len(cmds))
	for i := range cmds {
		under[i] = make(chan done, 1)
		go func() {
			reply, err := d.do(ctx, cmds[i])
			under[i] <- done{reply, err}
		}()
	}
	for i := range under {
		one := <-under[i]
		answer(i, one.reply, one.err)
	}
}

func (d *desk) serve(t *testing.T, nc *nats.Conn) *natsapi.Server {
	t.Helper()
	s, err := natsapi.Serve(nc, d, "1.2.3")
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// post sends a command without waiting, and gives where its answer will come.
func post(t *testing.T, nc *nats.Conn, verb registry.Verb, body string) <-chan *nats.Msg {
	t.Helper()
	answers := make(chan *nats.Msg, 1)
	inbox := nats.NewInbox()
	_, err := nc.ChanSubscribe(inbox, answers)
	require.NoError(t, err)
	require.NoError(t, nc.PublishRequest("keyfleet.cmd.acme.alice."+string(verb), inbox, []byte(body)))
	return answers
}

func await(t *testing.T, answers <-chan *nats.Msg) *nats.Msg {
	t.Helper()
	select {
	case m := <-answers:
		return m
	case <-time.After(20 * time.Second):
		require.Fail(t, "no answer")
		return nil
	}
}

func TestStandbyIsSilent(t *testing.T) {
	server := eventlogtest.StartServer(t)
	d := &desk{do: func(_ context.Context, c registry.Command) (any, error) {
		assert.Equal(t, "last", c.Request.Key, "a standby does not even look at commands")
		return &registry.KeyReply{}, nil
	}}
	d.standby.Store(true)
	d.serve(t, server.Connect())
	nc := server.Connect()
	unheard := post(t, nc, registry.KeyGet, `{"key":"demo-key"}`)
	malformed := post(t, nc, registry.KeyGet, `{"colour":"red"}`)
	require.Eventually(t, func() bool { return d.asked.Load() == 2 }, 20*time.Second, time.Millisecond)
	d.standby.Store(false)
	await(t, post(t, nc, registry.KeyGet, `{"key":"last"}`))
	assert.Empty(t, unheard)
	assert.Empty(t, malformed)
}

// Commands that arrive at once are carried out together. Each has its own answer, beside some that are refused, that nobody can read,
// that are queries, and one that waits for a verdict.
func TestCommandsThatArriveTogether(t *testing.T) {
	server := eventlogtest.StartServer(t)
	verdict := make(chan struct{})
	d := &desk{do: func(_ context.Context, c registry.Command) (any, error) {
		if c.Request.Wait == registry.WaitConfirmed {
			<-verdict
		}
		if c.Request.Description != nil {
			return nil, &registry.Refusal{Code: registry.Conflict}
		}
		return &registry.KeyReply{KeyView: registry.KeyView{Name: c.Request.Name + c.Request.Key}}, nil
	}}
	d.serve(t, server.Connect())
	conclude := sync.OnceFunc(func() { close(verdict) })
	t.Cleanup(conclude)
	nc := server.Connect()
	waits := post(t, nc, registry.KeyCreate, `{"name":"waiting-key","wait":"confirmed"}`)
	const n = 600
	answers := make([]<-chan *nats.Msg, n)
	for i := range n {
		switch name := fmt.Sprintf("key-%03d", i); i % 4 {
		case 0:
			answers[i] = post(t, nc, registry.KeyCreate, `{"name":"`+name+`"}`)
		case 1:
			answers[i] = post(t, nc, registry.KeyCreate, `{"name":"`+name)
		case 2:
			answers[i] = post(t, nc, registry.KeyEdit, `{"key":"`+name+`","description":""}`)
		default:
			answers[i] = post(t, nc, registry.KeyGet, `{"key":"`+name+`"}`)
		}
	}
	for i := range n {
		answer := await(t, answers[i])
		code := answer.Header.Get(micro.ErrorCodeHeader)
		require.Equal(t, map[int]string{1: "invalid", 2: "conflict"}[i%4], code)
		if code == "" {
			require.Contains(t, string(answer.Data), fmt.Sprintf(`"name":"key-%03d"`, i))
		}
	}
	require.Empty(t, waits)
	conclude()
	require.Contains(t, string(await(t, waits).Data), `"name":"waiting-key"`)
	require.Positive(t, d.together.Load(), "all came one by one")
}

// TestAnswersAreNobodysInput: the registry may publish where its callers may not, and answers must not be a way there.
func TestAnswersAreNobodysInput(t *testing.T) {
	server := startServer(t)
	hub := startHub(t, server, "hub")
	<-hub.opened
	nc := server.Connect()
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true})
	require.NoError(t, err)
	before, err := log.Last(t.Context())
	require.NoError(t, err)
	heard := make(chan *nats.Msg, 16)
	_, err = nc.ChanSubscribe("keyfleet.cmd.acme.bob.>", heard)
	require.NoError(t, err)
	subjects := []string{"keyfleet.cmd.acme.alice.key.list"}
	id := identityOf(t, nc).ID
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		subjects = append(subjects, "$SRV."+verb, "$SRV."+verb+".keyfleet", "$SRV."+verb+".keyfleet."+id)
	}
	for _, subject := range subjects {
		for _, reply := range []string{eventlog.Subject, "keyfleet.cmd.acme.bob.key.list", "$KV.KEYFLEET_ELECTION.active", "$JS.API.STREAM.DELETE.KEYFLEET_LOG"} {
			require.NoError(t, nc.PublishRequest(subject, reply, nil))
		}
	}
	for _, subject := range subjects[1:] {
		_, err = nc.Request(subject, nil, 10*time.Second) // heard behind them
		require.NoError(t, err)
	}
	_, err = nc.Request("keyfleet.cmd.acme.alice.key.list", nil, 10*time.Second) // heard behind them
	require.NoError(t, err)
	assert.Empty(t, heard)
	after, err := log.Last(t.Context())
	require.NoError(t, err)
	assert.Equal(t, before.StreamSeq, after.StreamSeq)
	_, active := hub.svc.Active()
	assert.True(t, active)
}

func identityOf(t *testing.T, nc *nats.Conn) (p micro.Ping) {
	t.Helper()
	answer, err := nc.Request("$SRV.PING.keyfleet", nil, 10*time.Second)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(answer.Data, &p))
	return p
}

// TestMonitoring asks what the nats command asks, of a registry that stands by too.
func TestMonitoring(t *testing.T) {
	server := eventlogtest.StartServer(t)
	d := &desk{do: func(_ context.Context, c registry.Command) (any, error) {
		if c.Request.Key == "demo-key" {
			return &registry.KeyReply{}, nil
		}
		return nil, &registry.Refusal{Code: registry.NotFound, Message: "there is no such key"}
	}}
	s := d.serve(t, server.Connect())
	nc := server.Connect()
	for _, key := range []string{"demo-key", "other"} {
		await(t, post(t, nc, registry.KeyGet, `{"key":"`+key+`"}`))
	}
	d.standby.Store(true)
	ping := identityOf(t, nc)
	require.Eventually(t, func() bool { // a command is in flight until its answer has left
		answer, err := nc.Request("$SRV.STATS.keyfleet", nil, 10*time.Second)
		require.NoError(t, err)
		return bytes.Contains(answer.Data, []byte(`"in_flight":0`))
	}, 20*time.Second, time.Millisecond)
	assert.Equal(t, micro.PingResponseType, ping.Type)
	assert.Equal(t, "keyfleet", ping.Name)
	assert.Equal(t, "1.2.3", ping.Version)
	for _, of := range []string{"", ".keyfleet", ".keyfleet." + ping.ID} {
		var info micro.Info
		var stats micro.Stats
		for verb, into := range map[string]any{"INFO": &info, "STATS": &stats} {
			answer, err := nc.Request("$SRV."+verb+of, nil, 10*time.Second)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(answer.Data, into))
		}
		assert.Equal(t, ping.ServiceIdentity, info.ServiceIdentity)
		assert.Equal(t, ping.ServiceIdentity, stats.ServiceIdentity)
		require.Len(t, info.Endpoints, len(registry.Verbs()))
		require.Len(t, stats.Endpoints, len(registry.Verbs()))
		for i, e := range stats.Endpoints {
			assert.Equal(t, info.Endpoints[i].Subject, e.Subject)
			assert.JSONEq(t, `{"active":false,"term":1,"in_flight":0}`, string(e.Data))
			if e.Name != "key-get" {
				assert.Zero(t, e.NumRequests)
				continue
			}
			assert.Equal(t, "keyfleet.cmd.*.*.key.get", e.Subject)
			assert.Equal(t, 2, e.NumRequests)
			assert.Equal(t, 1, e.NumErrors)
			assert.Equal(t, "not_found", e.LastError)
			assert.Positive(t, e.AverageProcessingTime)
		}
	}
	require.NoError(t, s.Close())
	_, err := nc.Request("$SRV.PING", nil, 10*time.Second)
	require.ErrorIs(t, err, nats.ErrNoResponders)
}

func TestCloseAnswersWhatIsUnderWay(t *testing.T) {
	server := eventlogtest.StartServer(t)
	entered, release := make(chan struct{}), make(chan struct{})
	d := &desk{do: func(ctx context.Context, c registry.Command) (any, error) {
		if c.Verb == registry.KeyGet {
			return &registry.KeyReply{}, nil
		}
		close(entered)
		<-release
		return &registry.KeyReply{Secret: "for alice"}, ctx.Err()
	}}
	s := d.serve(t, server.Connect())
	nc := server.Connect()
	underWay := post(t, nc, registry.KeyCreate, "")
	<-entered
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	require.Eventually(t, func() bool { // it takes nothing in any more
		_, err := nc.Request("keyfleet.cmd.acme.alice.key.get", nil, 10*time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	}, 20*time.Second, time.Millisecond)
	assert.Empty(t, closed, "with a command under way")
	close(release)
	require.NoError(t, <-closed)
	assert.Contains(t, string(await(t, underWay).Data), "for alice")
	require.NoError(t, s.Close(), "a second time")
}

// TestTooMany fills the registry up. Further callers are told at once, rather than left to wait.
func TestTooMany(t *testing.T) {
	server := eventlogtest.StartServer(t)
	const most = 4096
	release := make(chan struct{})
	var inside atomic.Int64
	d := &desk{do: func(context.Context, registry.Command) (any, error) {
		inside.Add(1)
		<-release
		return &registry.KeyReply{}, nil
	}}
	d.serve(t, server.Connect())
	nc := server.Connect()
	verbs := []registry.Verb{registry.KeyGet, registry.KeyCreate, registry.KeyDelete}
	for i := range most {
		require.NoError(t, nc.PublishRequest("keyfleet.cmd.acme.alice."+string(verbs[i%len(verbs)]), "unheard", nil))
	}
	require.Eventually(t, func() bool { return inside.Load() == most }, 20*time.Second, time.Millisecond)
	for _, verb := range verbs {
		answer := await(t, post(t, nc, verb, ""))
		assert.Equal(t, "unavailable", answer.Header.Get(micro.ErrorCodeHeader))
		assert.Contains(t, string(answer.Data), "try again")
	}
	close(release)
	for _, verb := range verbs {
		assert.Eventually(t, func() bool {
			return await(t, post(t, nc, verb, "")).Header == nil
		}, 20*time.Second, time.Millisecond)
	}
}

// No verifier comes to a desk.

func (d *desk) Renew(context.Context, string, head.Renewal) ([]byte, error) { return nil, nil }
func (d *desk) Goodbye(context.Context, string, head.Goodbye) error         { return nil }
func (d *desk) Acknowledge(string, head.Ack)                                {}
