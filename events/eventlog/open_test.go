package eventlog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

func TestOpenMissing(t *testing.T) {
	nc := eventlogtest.StartServer(t).Connect()
	_, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true})
	if !errors.Is(err, eventlog.ErrNoLog) {
		t.Fatalf("opened nothing: %v", err)
	}
	for _, say := range []string{"keyfleet init", "encryption key"} {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("%q does not speak of %q", err, say)
		}
	}
	if _, err := jetStream(t, nc).Stream(t.Context(), eventlog.StreamName); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatalf("open created the stream: %v", err)
	}
}

func TestOpenRefusesUnsafeStreams(t *testing.T) {
	s := eventlogtest.StartServer(t)
	nc := s.Connect()
	js := jetStream(t, nc)
	for name, spoil := range map[string]func(*jetstream.StreamConfig){
		"memory":      func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"async":       func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"deletable":   func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"purgeable":   func(c *jetstream.StreamConfig) { c.DenyPurge = false },
		"rollup":      func(c *jetstream.StreamConfig) { c.AllowRollup, c.DenyPurge = true, false },
		"direct":      func(c *jetstream.StreamConfig) { c.AllowDirect = true },
		"aged":        func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"counted":     func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 },
		"sized":       func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
		"per subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"small":       func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 },
		"no acks":     func(c *jetstream.StreamConfig) { c.NoAck = true },
		"expiring":    func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"subjects":    func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other") },
		"work queue":  func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"a mirror": func(c *jetstream.StreamConfig) {
			c.Subjects, c.Mirror = nil, &jetstream.StreamSource{Name: "ELSEWHERE"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := eventlog.StreamConfig(1)
			spoil(&config)
			createStream(t, js, config)
			defer func() { _ = js.DeleteStream(t.Context(), eventlog.StreamName) }()
			if _, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: s.SyncAlways}); !errors.Is(err, eventlog.ErrUnsafe) {
				t.Fatalf("opened: %v", err)
			}
		})
	}
}

func TestOpenRefusesServersThatDoNotSync(t *testing.T) {
	synced := eventlogtest.StartServer(t)
	unsynced := eventlogtest.StartServer(t, func(o *server.Options) { o.SyncAlways = false })
	for name, c := range map[string]struct {
		server *eventlogtest.Server
		ask    func(context.Context, []string) error
		want   error
	}{
		"asked, and it does":     {synced, eventlog.AskServers(synced.ConnectSystem()), nil},
		"asked, and it does not": {unsynced, eventlog.AskServers(unsynced.ConnectSystem()), eventlog.ErrUnsafe},
		"asked without a right":  {synced, eventlog.AskServers(synced.Connect()), eventlog.ErrUnsafe},
		"embedded, and it does":  {synced, synced.SyncAlways, nil},
		"embedded, and does not": {unsynced, unsynced.SyncAlways, eventlog.ErrUnsafe},
		"nobody to ask":          {synced, nil, eventlog.ErrUnsafe},
	} {
		t.Run(name, func(t *testing.T) {
			nc := c.server.Connect()
			if _, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{}); err != nil && !errors.Is(err, eventlog.ErrAlreadyOpen) {
				t.Fatal(err)
			}
			if _, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: c.ask}); !errors.Is(err, c.want) {
				t.Fatalf("opened: %v; want %v", err, c.want)
			}
		})
	}
}

func TestOpenAsksEachServer(t *testing.T) {
	servers := eventlogtest.StartCluster(t, 3)
	nc := servers[0].Connect()
	if _, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	asked := 0
	ask := eventlog.AskServers(servers[1].ConnectSystem())
	_, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: func(ctx context.Context, names []string) error {
		asked = len(names)
		return ask(ctx, names)
	}})
	if err != nil || asked != 3 {
		t.Fatalf("asked %d servers: %v", asked, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := ask(short, []string{"n1", "nobody"}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "nobody") {
		t.Fatalf("asked a server that does not exist: %v", err)
	}
}

func TestOpenRefusesServersThatPassOnTooLittle(t *testing.T) {
	for most, want := range map[int32]error{528<<10 - 1: eventlog.ErrUnsafe, 528 << 10: nil} {
		s := eventlogtest.StartServer(t, func(o *server.Options) { o.MaxPayload = most })
		nc := s.Connect()
		if _, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: s.SyncAlways})
		if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "set its max_payload to") {
			t.Errorf("max_payload %d: %v", most, err)
		}
		if _, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true}); err != nil {
			t.Errorf("max_payload %d, to read: %v", most, err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	nc := eventlogtest.StartServer(t).Connect()
	at, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), at, eventlogtest.NewCommit(t, at, 1)); !errors.Is(err, eventlog.ErrReadOnly) {
		t.Fatalf("appended: %v", err)
	}
}

// TestMirror follows a PoP's copy of the log, from a position that the copy has not reached.
func TestMirror(t *testing.T) {
	hub := eventlogtest.StartServer(t, func(o *server.Options) {
		o.JetStreamDomain = "hub"
		o.LeafNode = server.LeafNodeOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT}
	})
	pop := eventlogtest.StartServer(t, func(o *server.Options) {
		o.JetStreamDomain = "pop"
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: hub.LeafURLs()}}
	})
	start, err := eventlog.Init(t.Context(), hub.Connect(), eventlog.InitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(t.Context(), hub.Connect(), eventlog.Options{SyncAlways: hub.SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	nc := pop.Connect()
	opts := eventlog.Options{Domain: "pop", Mirror: true}
	if _, err := eventlog.Open(t.Context(), nc, opts); !errors.Is(err, eventlog.ErrNoLog) {
		t.Fatalf("opened a mirror that is not set up: %v", err)
	}
	_, err = jetStream(t, nc).CreateStream(t.Context(), jetstream.StreamConfig{
		Name:   eventlog.StreamName,
		Mirror: &jetstream.StreamSource{Name: eventlog.StreamName, External: &jetstream.ExternalStream{APIPrefix: "$JS.hub.API"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	copied, err := eventlog.Open(t.Context(), nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := nc.SubscribeSync("$JS.API.STREAM.INFO.>")
	if err != nil {
		t.Fatal(err)
	}

	first := eventlogtest.NewCommit(t, start, 1)
	body, err := first.Encode()
	if err != nil {
		t.Fatal(err)
	}
	ahead := eventlogtest.Behind(events.Entry{Commit: first, Chain: events.HashCommit(body), StreamSeq: 2})
	second := eventlogtest.NewCommit(t, ahead, 1)
	got := make(chan events.Position)
	go func() {
		_ = copied.Follow(t.Context(), ahead, func(batch []events.Entry) error {
			got <- eventlogtest.Behind(batch[0])
			return errors.New("done")
		})
	}()
	for range 2 { // it has asked, found the mirror behind, and asked again
		if _, err := asked.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := log.Append(t.Context(), start, first); err != nil {
		t.Fatal(err)
	}
	want, err := log.Append(t.Context(), ahead, second)
	if err != nil {
		t.Fatal(err)
	}
	if p := <-got; p != eventlogtest.Behind(want) {
		t.Fatalf("followed the mirror to %+v, want %+v", p, eventlogtest.Behind(want))
	}
}
