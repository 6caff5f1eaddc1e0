package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

// benchLog is a new log on one server that syncs always, over TCP.
func benchLog(b *testing.B) (*eventlog.Log, *nats.Conn, events.Position) {
	b.Helper()
	s := eventlogtest.StartServer(b)
	return openLog(b, s, eventlog.Options{SyncAlways: s.SyncAlways})
}

func openLog(b *testing.B, s *eventlogtest.Server, opts eventlog.Options) (*eventlog.Log, *nats.Conn, events.Position) {
	b.Helper()
	nc := s.Connect()
	at, err := eventlog.Init(b.Context(), nc, eventlog.InitOptions{Actor: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	log, err := eventlog.Open(b.Context(), nc, opts)
	if err != nil {
		b.Fatal(err)
	}
	return log, nc, at
}

// BenchmarkAppend measures durable appends, one after another, beside plain publishes of the same bytes.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("%d-events/Append", n), func(b *testing.B) {
			log, _, at := benchLog(b)
			for b.Loop() {
				b.StopTimer()
				c := eventlogtest.NewCommit(b, at, n)
				b.StartTimer()
				e, err := log.Append(b.Context(), at, c)
				if err != nil {
					b.Fatal(err)
				}
				at = eventlogtest.Behind(e)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
		b.Run(fmt.Sprintf("%d-events/plain", n), func(b *testing.B) {
			_, nc, at := benchLog(b)
			body, err := eventlogtest.NewCommit(b, at, n).Encode()
			if err != nil {
				b.Fatal(err)
			}
			js, err := jetstream.New(nc)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := js.Publish(b.Context(), eventlog.Subject, body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkFollow measures a replay of b.N commits, beside reads of the same stream that do nothing with it.
func BenchmarkFollow(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d-events", n), func(b *testing.B) {
			// Reads never sync, and a log of this size would take minutes to write if its writes did.
			unsynced := eventlogtest.StartServer(b, func(o *server.Options) { o.SyncAlways = false })
			log, nc, at := openLog(b, unsynced, eventlog.Options{ReadOnly: true})
			fillTo := fill(b, nc, at, n)
			reads := map[string]func(b *testing.B, commits int){
				"Follow":       func(b *testing.B, commits int) { followN(b, log, commits) },
				"legacy-push":  func(b *testing.B, commits int) { legacyN(b, nc, commits) },
				"ordered-pull": func(b *testing.B, commits int) { orderedN(b, nc, commits) },
			}
			for _, name := range []string{"Follow", "legacy-push", "ordered-pull"} {
				b.Run(name, func(b *testing.B) {
					fillTo(b.N)
					b.ResetTimer()
					reads[name](b, b.N)
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
					b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
				})
			}
		})
	}
}

// fill gives a function that extends the log to at least so many commits, by pipelined publishes.
func fill(b *testing.B, nc *nats.Conn, at events.Position, n int) func(commits int) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		b.Fatal(err)
	}
	return func(commits int) {
		for at.StreamSeq < uint64(commits) {
			c := eventlogtest.NewCommit(b, at, n)
			m, e, err := eventlog.Message(at, c)
			if err == nil {
				_, err = js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute))
			}
			if err != nil {
				b.Fatal(err)
			}
			at = eventlogtest.Behind(e)
		}
		<-js.PublishAsyncComplete()
	}
}

func followN(b *testing.B, log *eventlog.Log, commits int) {
	done, total, batches := errors.New("done"), commits, 0
	defer func() { b.ReportMetric(float64(total)/float64(batches), "commits/batch") }()
	err := log.Follow(b.Context(), events.Position{}, func(batch []events.Entry) error {
		batches++
		if commits -= len(batch); commits <= 0 {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		b.Fatal(err)
	}
}

func legacyN(b *testing.B, nc *nats.Conn, commits int) {
	js, err := nc.JetStream()
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	sub, err := js.Subscribe(eventlog.Subject, func(*nats.Msg) {
		if commits--; commits == 0 {
			cancel()
		}
	}, nats.OrderedConsumer())
	if err != nil {
		b.Fatal(err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe()
}

func orderedN(b *testing.B, nc *nats.Conn, commits int) {
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(b.Context(), eventlog.StreamName, jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	reading, err := consumer.Consume(func(jetstream.Msg) {
		if commits--; commits == 0 {
			cancel()
		}
	}, jetstream.PullMaxMessages(5000))
	if err != nil {
		b.Fatal(err)
	}
	<-ctx.Done()
	reading.Stop()
}

// BenchmarkLatency measures from the start of an append to its commit's delivery, when nothing else happens.
func BenchmarkLatency(b *testing.B) {
	log, _, at := benchLog(b)
	came := make(chan struct{})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	start := at
	go func() {
		ended <- log.Follow(ctx, start, func([]events.Entry) error {
			came <- struct{}{}
			return nil
		})
	}()
	for b.Loop() {
		e, err := log.Append(ctx, at, eventlogtest.NewCommit(b, at, 1))
		if err != nil {
			b.Fatal(err)
		}
		<-came
		at = eventlogtest.Behind(e)
	}
	cancel()
	<-ended
}
