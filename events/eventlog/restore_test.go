package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

func restore(t *testing.T, nc *nats.Conn, opts eventlog.RestoreOptions) (*eventlog.Log, events.Position) {
	t.Helper()
	log, at, err := eventlog.Restore(t.Context(), nc, opts)
	if err != nil {
		t.Fatal(err)
	}
	return log, at
}

// Half of a log is no log: until all of it is back, nobody opens it, and an interrupted restore goes on where it was.
func TestRestoreIsAllOrNothing(t *testing.T) {
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	opts := eventlog.RestoreOptions{
		InitOptions: eventlog.InitOptions{SigningKey: events.PublicKey{1}, Actor: "ada"},
		Opened:      1_700_000_000_000, Reason: "from a tape",
	}
	log, opened := restore(t, nc, opts)
	c := eventlogtest.NewCommit(t, opened, 3)
	if _, err := log.Append(t.Context(), opened, c); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() error{
		"open": func() error {
			_, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true})
			return err
		},
		"init": func() error {
			_, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{})
			return err
		},
		"a restore from something else": func() error {
			other := opts
			other.Reason = "from another tape"
			_, _, err := eventlog.Restore(t.Context(), nc, other)
			return err
		},
	} {
		if err := open(); !errors.Is(err, eventlog.ErrUnsafe) && !errors.Is(err, eventlog.ErrAlreadyOpen) {
			t.Errorf("%s of half a log: %v", name, err)
		}
	}

	again, at := restore(t, nc, opts) // as after a crash
	if at != opened {
		t.Fatalf("it began at %+v, then at %+v", opened, at)
	}
	first, err := again.Append(t.Context(), at, c)
	if err != nil {
		t.Fatalf("the commit that is there already: %v", err)
	}
	behind := eventlogtest.Behind(first)
	if _, err := again.Append(t.Context(), behind, eventlogtest.NewCommit(t, behind, 1)); err != nil {
		t.Fatal(err)
	}
	if err := again.Restored(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: server.SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	last, err := whole.Last(t.Context())
	if err != nil || last.Commit.Last() != 5 {
		t.Fatalf("it ends with %+v: %v", last, err)
	}
	if _, _, err := eventlog.Restore(t.Context(), nc, opts); !errors.Is(err, eventlog.ErrAlreadyOpen) {
		t.Fatalf("a restore over a log: %v", err)
	}
}

// Scan shows what is there, and what is not.
func TestScanShowsTheStreamAsItIs(t *testing.T) {
	server := eventlogtest.StartServer(t)
	nc := server.Connect()
	at, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: server.SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		e, err := log.Append(t.Context(), at, eventlogtest.NewCommit(t, at, 2))
		if err != nil {
			t.Fatal(err)
		}
		at = eventlogtest.Behind(e)
	}
	scan := func() (bodies [][]byte) {
		err := log.Scan(t.Context(), func(body []byte) error {
			bodies = append(bodies, bytes.Clone(body))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return bodies
	}
	whole := scan()
	if len(whole) != 21 || events.HashCommit(whole[20]) != at.Chain {
		t.Fatalf("%d messages", len(whole))
	}
	js := jetStream(t, nc)
	lax, err := js.Stream(t.Context(), eventlog.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	config := lax.CachedInfo().Config
	if err := js.DeleteStream(t.Context(), eventlog.StreamName); err != nil {
		t.Fatal(err)
	}
	config.DenyDelete = false
	createStream(t, js, config)
	for i, body := range whole {
		publish(t, js, body)
		if i == 7 || i == 20 {
			if err := remove(t.Context(), js, uint64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if part := scan(); len(part) != 19 || !bytes.Equal(part[7], whole[8]) {
		t.Fatalf("%d messages are left", len(part))
	}
	enough := errors.New("enough")
	if err := log.Scan(t.Context(), func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Fatal(err)
	}
}

func publish(t *testing.T, js jetstream.JetStream, body []byte) {
	t.Helper()
	if _, err := js.Publish(t.Context(), eventlog.Subject, body); err != nil {
		t.Fatal(err)
	}
}

func remove(ctx context.Context, js jetstream.JetStream, seq uint64) error {
	s, err := js.Stream(ctx, eventlog.StreamName)
	if err != nil {
		return err
	}
	return s.DeleteMsg(ctx, seq)
}
