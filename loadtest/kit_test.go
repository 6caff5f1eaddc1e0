package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
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

// fleet is one registry on a server of its own, and the verifiers that follow it.
type fleet struct {
	testing.TB
	server   *eventlogtest.Server
	key      ed25519.PrivateKey // of the log
	svc      *registry.Service
	verifier *verifier.Verifier // the one that startFleet starts
	time     *shifted
	heard    chan registry.Committed
	opened   time.Time // the registry's term
}

// shifted is the system's clock, moved. Log servers and registry share it, as in one process.
type shifted struct {
	clock.System
	by atomic.Int64
}

func (s *shifted) Now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

func (s *shifted) Both() (time.Time, time.Duration) { return s.Now(), s.Elapsed() }

type shiftedLog struct {
	*eventlog.Log
	time *shifted
}

func (l shiftedLog) Now(context.Context) (time.Time, error) { return l.time.Now(), nil }

// startFleet starts a registry and one verifier.
func startFleet(t testing.TB) *fleet {
	f := newFleet(t)
	f.startRegistry()
	only := f.openVerifier("edge", verifier.Options{})
	only.start()
	<-only.ready
	f.verifier = only.Verifier
	return f
}

// newFleet is a log on a server, and nobody there yet.
func newFleet(t testing.TB) *fleet {
	server := eventlogtest.StartServer(t)
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, err = eventlog.Init(t.Context(), server.Connect(), eventlog.InitOptions{Actor: "loadtest", SigningKey: events.PublicKey(public)})
	require.NoError(t, err)
	return &fleet{TB: t, server: server, key: key, time: &shifted{}, heard: make(chan registry.Committed, 1<<20)}
}

// running runs f until the test ends, or stop is called. It returns once f has begun to.
func (f *fleet) running(run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	stop = func() { cancel(); <-done }
	f.Cleanup(stop)
	return stop
}

// startRegistry starts the only registry, and returns once it leads.
func (f *fleet) startRegistry() {
	f.svc, _ = f.runRegistry("hub", f.TempDir(), f.server.ClientURL())
	require.Eventually(f, func() bool { _, active := f.svc.Active(); return active }, 20*time.Second, time.Millisecond)
	f.opened = time.Now()
}

// runRegistry runs one with its catalog in dir, connected to address.
func (f *fleet) runRegistry(name, dir, address string) (svc *registry.Service, stop func()) {
	cat, err := catalog.Open(dir, catalog.Options{})
	require.NoError(f, err)
	nc := eventlogtest.Connect(f, address, nats.RetryOnFailedConnect(true))
	log, err := eventlog.Open(f.Context(), nc, eventlog.Options{SyncAlways: f.server.SyncAlways})
	require.NoError(f, err)
	election, err := natsapi.NewElection(f.Context(), nc, natsapi.ElectionOptions{Name: name})
	require.NoError(f, err)
	svc = registry.NewService(shiftedLog{log, f.time}, cat, election, registry.Options{
		Name: name, Clock: f.time, SigningKey: f.key,
		Observe: func(e registry.Event) {
			if e, ok := e.(registry.Committed); ok {
				f.heard <- e
			}
		},
	})
	api, err := natsapi.Serve(nc, svc, "0.0.0")
	require.NoError(f, err)
	return svc, f.running(func(ctx context.Context) {
		_ = svc.Run(ctx) // ends with ctx
		_ = api.Close()
		_ = cat.Close()
		nc.Close()
	})
}

// edge is a verifier of the fleet, on a connection of its own.
type edge struct {
	*verifier.Verifier
	fleet *fleet
	nc    *nats.Conn
	line  *line
	stop  func()
	ready chan struct{} // has something in it once the verifier answers
}

// openVerifier makes a new one. Its index is in memory: verifiers do not share the disk that the log waits for.
func (f *fleet) openVerifier(name string, opts verifier.Options) *edge {
	dir, err := os.MkdirTemp("/dev/shm", "keyfleet-loadtest-")
	require.NoError(f, err)
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	return f.reopenVerifier(name, dir, f.server.ClientURL(), opts)
}

// reopenVerifier makes one with its index in dir, connected to address.
func (f *fleet) reopenVerifier(name, dir, address string, opts verifier.Options) *edge {
	e := &edge{fleet: f, ready: make(chan struct{}, 1), nc: eventlogtest.Connect(f, address, nats.RetryOnFailedConnect(true))}
	log, err := eventlog.Open(f.Context(), e.nc, eventlog.Options{ReadOnly: true})
	require.NoError(f, err)
	hub, err := uplink.New(e.nc, name)
	require.NoError(f, err)
	e.line = newLine(log, hub)
	opts.Source, opts.Uplink, opts.Name, opts.Clock = e.line, e.line, name, f.time
	opts.LogKeys = []events.PublicKey{events.PublicKey(f.key[ed25519.SeedSize:])}
	opts.Listen = func(event verifier.Event) {
		if _, ok := event.(verifier.CaughtUp); ok {
			select {
			case e.ready <- struct{}{}:
			default:
			}
		}
	}
	e.Verifier, err = verifier.Open(dir, opts)
	require.NoError(f, err)
	return e
}

func (e *edge) start() {
	e.stop = e.fleet.running(func(ctx context.Context) {
		_ = e.Run(ctx) // ends with ctx
		_ = e.Close()
		e.nc.Close()
	})
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
