package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

// BenchmarkReplay has a new index read a log of creates from a server beside it: full commits, and commits of one event each.
// Beside it stand the stages that this is made of: read/ is a bare JetStream read of the same stream, and Follow/ decodes and checks
// what it reads.
func BenchmarkReplay(b *testing.B) {
	for _, log := range []struct{ commits, events int }{{1000, 1000}, {200_000, 1}} {
		if testing.Short() {
			log.commits /= 10
		}
		b.Run(fmt.Sprintf("events=%d", log.events), func(b *testing.B) {
			f := newReplay(b, log.commits, log.events)
			for _, stage := range []struct {
				name string
				run  func(*testing.B)
			}{{"read", f.read}, {"Follow", f.follow}, {"index", f.index}} {
				b.Run(stage.name, func(b *testing.B) {
					for b.Loop() {
						stage.run(b)
					}
					b.ReportMetric(float64(b.N)*float64(log.commits*log.events)/b.Elapsed().Seconds(), "events/s")
				})
			}
		})
	}
}

// replay is a log, and how it is read.
type replay struct {
	log *eventlog.Log
	nc  *nats.Conn
	end events.Position
}

func newReplay(b *testing.B, commits, each int) *replay {
	// Reads never sync, and a log of this size would take minutes to write if its writes did.
	s := eventlogtest.StartServer(b, func(o *server.Options) { o.SyncAlways = false })
	nc := s.Connect()
	at, err := eventlog.Init(b.Context(), nc, eventlog.InitOptions{Actor: "bench"})
	require.NoError(b, err)
	log, err := eventlog.Open(b.Context(), nc, eventlog.Options{ReadOnly: true})
	require.NoError(b, err)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1000))
	require.NoError(b, err)
	publish := func(c *events.Commit) {
		body, err := c.Encode()
		require.NoError(b, err)
		_, err = js.PublishAsync(eventlog.Subject, body, jetstream.WithStallWait(time.Minute))
		require.NoError(b, err)
		at = eventlogtest.Behind(events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: at.StreamSeq + 1})
	}
	publish(eventlogtest.NewCommitOf(b, at, events.Event{
		Project: "demo", Subject: events.DeploymentID{1}, Rev: 1, Fact: &events.DeploymentRegistered{Name: "echo"},
	}))
	for range commits {
		publish(eventlogtest.NewCommit(b, at, each))
	}
	<-js.PublishAsyncComplete()
	return &replay{log, nc, at}
}

var errEnd = errors.New("the end")

func (f *replay) follow(b *testing.B) {
	require.ErrorIs(b, f.log.Follow(b.Context(), events.Position{}, func(entries []events.Entry) error {
		if entries[len(entries)-1].StreamSeq == f.end.StreamSeq {
			return errEnd
		}
		return nil
	}), errEnd)
}

func (f *replay) index(b *testing.B) {
	idx, err := keyindex.Open(b.TempDir(), keyindex.Options{})
	require.NoError(b, err)
	require.ErrorIs(b, f.log.Follow(b.Context(), idx.Position(), func(entries []events.Entry) error {
		if err := idx.Apply(entries); err != nil {
			return err
		}
		if idx.Position() == f.end {
			return errEnd
		}
		return nil
	}), errEnd)
	b.StopTimer()
	require.NoError(b, idx.Close())
	b.StartTimer()
}

func (f *replay) read(b *testing.B) {
	js, err := f.nc.JetStream()
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	sub, err := js.Subscribe(eventlog.Subject, func(m *nats.Msg) {
		if at, err := m.Metadata(); err == nil && at.Sequence.Stream == f.end.StreamSeq {
			cancel()
		}
	}, nats.OrderedConsumer())
	require.NoError(b, err)
	<-ctx.Done()
	require.NoError(b, sub.Unsubscribe())
}
