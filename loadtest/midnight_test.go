package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

const (
	midnightKeys = 100_000
	deletes      = 300 // before midnight; as many as fit meanwhile
)

// BenchmarkMidnight lets 100,000 keys fall due at one instant: how long until all of that is durable, and what a
// delete waits for meanwhile, beside what it waits for in quiet. Run it with -benchtime 1x.
func BenchmarkMidnight(b *testing.B) {
	f := startFleet(b)
	midnight := time.Now().Add(30 * 24 * time.Hour).Truncate(24 * time.Hour)
	f.create("due", midnightKeys, midnight.Format(time.DateOnly))
	f.create("live", 2*deletes, "never")
	c := natsapi.NewClient(f.server.Connect(), "bench", "bench")
	next := 0
	remove := func() time.Duration {
		sent := time.Now()
		require.NoError(b, c.Do(b.Context(), registry.KeyDelete, registry.Request{Key: fmt.Sprintf("live-%06d", next)}, &registry.KeyReply{}))
		next++
		return time.Since(sent)
	}
	var quiet, stormy spread
	for range deletes {
		quiet = append(quiet, remove())
		time.Sleep(5 * time.Millisecond)
	}
	quiet.report(b, "quiet-")

	for len(f.heard) > 0 {
		<-f.heard
	}
	f.time.by.Store(int64(time.Until(midnight)))
	struck := time.Now()
	durable := make(chan time.Duration)
	go func() {
		for expired := 0; expired < midnightKeys; {
			expired += (<-f.heard).Expired
		}
		durable <- time.Since(struck)
	}()
	for {
		select {
		case took := <-durable:
			b.ReportMetric(took.Seconds(), "all-durable-s")
			stormy.report(b, "storm-")
			b.ReportMetric(float64(len(stormy)), "storm-deletes")
			return
		default:
			if next < 2*deletes {
				stormy = append(stormy, remove())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// create makes n keys by many callers at once.
func (f *fleet) create(prefix string, n int64, expires string) {
	var made atomic.Int64
	var callers sync.WaitGroup
	for range 1000 {
		callers.Go(func() {
			for i := made.Add(1) - 1; i < n; i = made.Add(1) - 1 {
				_, err := f.svc.Do(f.Context(), registry.Command{Project: "bench", Actor: "bench", Verb: registry.KeyCreate,
					Request: registry.Request{Name: fmt.Sprintf("%s-%06d", prefix, i), ExpiresAt: &expires}})
				if err != nil {
					f.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
}
