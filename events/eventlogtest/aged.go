package eventlogtest

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
)

// Age makes a log that Init has just opened one that was opened long ago, with the lease that was set soon after. A lease that is
// set now would not do for tests of what happens past it: fences wait for grants of the ten minutes before it.
func Age(t testing.TB, nc *nats.Conn, lease time.Duration) {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), eventlog.StreamName)
	must(t, err)
	message, err := stream.GetMsg(t.Context(), 1)
	must(t, err)
	opened, err := events.DecodeCommit(message.Data)
	must(t, err)
	must(t, js.DeleteStream(t.Context(), eventlog.StreamName))
	await(t, "the stream's directory to be free again", func() bool {
		_, err := js.CreateStream(t.Context(), stream.CachedInfo().Config)
		return err == nil
	})

	opened.Time = events.InstantOf(time.Now().Add(-24 * time.Hour))
	at := publish(t, js, events.Position{}, opened)
	publish(t, js, at, NewCommitOf(t, at, events.Event{
		Fact:  &events.SettingChanged{Name: "lease", Value: lease.String()},
		Admin: events.Admin{Actor: "tester"}.Plain(),
	}))
}

func publish(t testing.TB, js jetstream.JetStream, after events.Position, c *events.Commit) events.Position {
	t.Helper()
	body, err := c.Encode()
	must(t, err)
	stored, err := js.Publish(t.Context(), eventlog.Subject, body)
	must(t, err)
	at, err := after.Next(events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: stored.Sequence})
	must(t, err)
	return at
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
