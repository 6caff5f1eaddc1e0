package main

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/projections/proof"
)

// BenchmarkAudit reads a stream from a NATS server: plain, which is the limit, verified, and folded into a state.
// AUDIT_BENCH_EVENTS says how many events there are in commits of a hundred; in commits of one there are a twentieth of that.
func BenchmarkAudit(b *testing.B) {
	n := 100_000
	if text := os.Getenv("AUDIT_BENCH_EVENTS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	b.Run("commits=100", func(b *testing.B) { benchmarkAudit(b, n, 100) })
	b.Run("commits=1", func(b *testing.B) { benchmarkAudit(b, n/20, 1) })
}

func benchmarkAudit(b *testing.B, n, perCommit int) {
	server := eventlogtest.StartServer(b)
	nc := server.Connect()
	at, err := eventlog.Init(b.Context(), nc, eventlog.InitOptions{})
	require.NoError(b, err)
	log, err := eventlog.Open(b.Context(), nc, eventlog.Options{SyncAlways: server.SyncAlways})
	require.NoError(b, err)
	for at.Seq < events.Seq(n) {
		e, err := log.Append(b.Context(), at, eventlogtest.NewCommit(b, at, perCommit))
		require.NoError(b, err)
		at = eventlogtest.Behind(e)
	}
	source := func(yield func(proof.Part) error) error {
		return log.Scan(b.Context(), func(body []byte) error { return yield(proof.Part{Commit: body}) })
	}
	replay := func(show func(events.Entry) error) error {
		r, err := proof.NewReplay(proof.Options{})
		if err != nil {
			return err
		}
		if err := r.Read(source, show); err != nil {
			return err
		}
		_, err = r.End()
		return err
	}
	for _, way := range []struct {
		name string
		read func() error
	}{
		{"plain", func() error { return log.Scan(b.Context(), func([]byte) error { return nil }) }},
		{"verify", func() error { return replay(func(events.Entry) error { return nil }) }},
		{"state", func() error {
			s := history.NewState(nil)
			return replay(func(e events.Entry) error { return s.Fold(e.Commit, e.Commit.Last()) })
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, way.read())
			}
			b.ReportMetric(float64(at.Seq)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
