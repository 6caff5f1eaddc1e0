package eventlog_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

func jetStream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// createStream creates what a test before may just have deleted.
func createStream(t *testing.T, js jetstream.JetStream, config jetstream.StreamConfig) {
	t.Helper()
	untilTaken(t, func() error {
		_, err := js.CreateStream(t.Context(), config)
		return err
	})
}

func TestInit(t *testing.T) {
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	opts := eventlog.InitOptions{SigningKey: events.PublicKey{1, 2, 3}, Actor: "ada"}
	at, err := eventlog.Init(t.Context(), nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: server.SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	first, err := log.Read(t.Context(), 1)
	if err != nil || eventlogtest.Behind(first) != at {
		t.Fatalf("init ended at %+v, the log holds %+v: %v", at, first, err)
	}
	e := first.Commit.Events()[0]
	opened, ok := e.Fact.(*events.LogOpened)
	admin, err := e.Open(nil)
	if !ok || err != nil || opened.Incarnation != at.Incarnation || opened.SigningKey != opts.SigningKey || admin.Actor != "ada" {
		t.Fatalf("the first event is %+v by %+v: %v", e.Fact, admin, err)
	}
	if _, err := eventlog.Init(t.Context(), nc, opts); !errors.Is(err, eventlog.ErrAlreadyOpen) {
		t.Fatalf("a second init: %v", err)
	}
	js := jetStream(t, nc)
	stream, err := js.Stream(t.Context(), eventlog.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	if stream.DeleteMsg(t.Context(), 1) == nil || stream.Purge(t.Context()) == nil {
		t.Fatal("the log can be deleted from or purged")
	}
}

func TestInitRaces(t *testing.T) {
	server := eventlogtest.StartServer(t)
	const racers = 8
	var errs [racers]error
	var done sync.WaitGroup
	for i := range racers {
		nc := server.Connect()
		done.Go(func() { _, errs[i] = eventlog.Init(t.Context(), nc, eventlog.InitOptions{Actor: "racer"}) })
	}
	done.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, eventlog.ErrAlreadyOpen) {
			t.Errorf("a racer that lost: %v", err)
		}
	}
	stream, err := jetStream(t, server.Connect()).Stream(t.Context(), eventlog.StreamName)
	if err != nil || won != 1 || stream.CachedInfo().State.LastSeq != 1 {
		t.Fatalf("%d racers won, and the stream is %+v: %v", won, stream.CachedInfo().State, err)
	}
}

// TestInitInterrupted walks through what a crash of Init may leave.
func TestInitInterrupted(t *testing.T) {
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	js := jetStream(t, nc)
	for name, c := range map[string]struct {
		left jetstream.StreamConfig
		want error
	}{
		"the stream, and nothing in it": {eventlog.StreamConfig(1), nil},
		"a stream of somebody else's":   {jetstream.StreamConfig{Name: eventlog.StreamName, Subjects: []string{"a"}}, eventlog.ErrUnsafe},
	} {
		t.Run(name, func(t *testing.T) {
			createStream(t, js, c.left)
			defer func() { _ = js.DeleteStream(t.Context(), eventlog.StreamName) }()
			if _, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true}); err == nil {
				t.Error("opened a log that is none yet")
			}
			if _, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{}); !errors.Is(err, c.want) {
				t.Fatalf("init: %v; want %v", err, c.want)
			}
			if c.want != nil {
				return
			}
			if _, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
