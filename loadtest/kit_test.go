package loadtest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/uplink"
)

// fleet is one registry and one verifier on a server of their own.
type fleet struct {
	server   *eventlogtest.Server
	key      ed25519.PrivateKey // of the log
	svc      *registry.Service
	verifier *verifier.Verifier
	time     *shifted
	heard    chan registry.Committed
}

// shifted is the system's clock, moved. Log servers and registry share it, as in one process.
type shifted struct {
	clock.System
	by atomic.Int64
}

func (s *shifted) Now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

type shiftedLog struct {
	*eventlog.Log
	time *shifted
}

func (l shiftedLog) Now(context.Context) (time.Time, error) { return l.time.Now(), nil }

func startFleet(b *testing.B) *fleet {
	server := eventlogtest.StartServer(b)
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	_, err = eventlog.Init(b.Context(), server.Connect(), eventlog.InitOptions{Actor: "loadtest", SigningKey: events.PublicKey(public)})
	require.NoError(b, err)
	f := &fleet{server: server, key: key, time: &shifted{}, heard: make(chan registry.Committed, 1<<20)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	f.startRegistry(ctx, b, &running)
	f.startVerifier(ctx, b, &running)
	b.Cleanup(func() {
		cancel()
		running.Wait()
		require.NoError(b, f.verifier.Close())
	})
	return f
}

func (f *fleet) openLog(b *testing.B) *eventlog.Log {
	log, err := eventlog.Open(b.Context(), f.server.Connect(), eventlog.Options{SyncAlways: f.server.SyncAlways})
	require.NoError(b, err)
	return log
}

func (f *fleet) startRegistry(ctx context.Context, b *testing.B, running *sync.WaitGroup) {
	cat, err := catalog.Open(b.TempDir(), catalog.Options{})
	require.NoError(b, err)
	nc := f.server.Connect()
	election, err := natsapi.NewElection(b.Context(), nc, natsapi.ElectionOptions{Name: "hub"})
	require.NoError(b, err)
	opened := make(chan struct{}, 16)
	f.svc = registry.NewService(shiftedLog{f.openLog(b), f.time}, cat, election, registry.Options{
		Name: "hub", Clock: f.time, SigningKey: f.key,
		Observe: func(e registry.Event) {
			switch e := e.(type) {
			case registry.TermOpened:
				opened <- struct{}{}
			case registry.Committed:
				f.heard <- e
			}
		},
	})
	api, err := natsapi.Serve(nc, f.svc, "0.0.0")
	require.NoError(b, err)
	running.Go(func() {
		_ = f.svc.Run(ctx) // ends with ctx
		_ = api.Close()
		_ = cat.Close()
	})
	<-opened
}

func (f *fleet) startVerifier(ctx context.Context, b *testing.B, running *sync.WaitGroup) {
	log := f.openLog(b)
	ready := make(chan struct{}, 16)
	hub, err := uplink.New(f.server.Connect(), "edge")
	require.NoError(b, err)
	f.verifier, err = verifier.Open(b.TempDir(), verifier.Options{
		Source: log, Uplink: hub, Name: "edge", LogKeys: []events.PublicKey{events.PublicKey(f.key[32:])}, Clock: f.time,
		Listen: func(e verifier.Event) {
			if _, ok := e.(verifier.CaughtUp); ok {
				ready <- struct{}{}
			}
		},
	})
	require.NoError(b, err)
	running.Go(func() { _ = f.verifier.Run(ctx) }) // ends with ctx
	<-ready
}

// spread is how long single calls took.
type spread []time.Duration

func (s spread) report(b *testing.B, prefix string) {
	slices.Sort(s)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(s[len(s)/2]), prefix+"p50-ms")
	b.ReportMetric(ms(s[len(s)*99/100]), prefix+"p99-ms")
	b.ReportMetric(ms(s[len(s)-1]), prefix+"max-ms")
}
