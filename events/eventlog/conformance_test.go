package eventlog_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

func TestSingleServer(t *testing.T) {
	servers := []*eventlogtest.Server{eventlogtest.StartServer(t)}
	eventlogtest.TestLog(t, func(t *testing.T) eventlogtest.Harness { return newRig(t, servers).harness() })
}

func TestCluster(t *testing.T) {
	servers := eventlogtest.StartCluster(t, 3)
	eventlogtest.TestLog(t, func(t *testing.T) eventlogtest.Harness { return newRig(t, servers).harness() })
}

// rig is a log on servers that tests share, which replicate it among all of them.
type rig struct {
	t       *testing.T
	servers []*eventlogtest.Server
	proxy   *proxy
	admin   *nats.Conn // past the proxy
	js      jetstream.JetStream
	log     *eventlog.Log
}

func newRig(t *testing.T, servers []*eventlogtest.Server) *rig {
	t.Helper()
	r := &rig{t: t, servers: servers, proxy: startProxy(t, servers[0].ClientURL()), admin: servers[0].Connect()}
	t.Cleanup(r.admin.Close)
	var err error
	if r.js, err = jetstream.New(r.admin); err != nil {
		t.Fatal(err)
	}
	r.recreate()
	nc := eventlogtest.Connect(t, r.proxy.url(), nats.IgnoreDiscoveredServers())
	r.log, err = eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: servers[0].SyncAlways})
	if err != nil {
		t.Fatal(err)
	}
	r.log.SetPatience(500*time.Millisecond, 300*time.Millisecond)
	return r
}

func (r *rig) harness() eventlogtest.Harness {
	return eventlogtest.Harness{
		Log:      r.log,
		Publish:  r.publish,
		Recreate: r.recreate,
		LoseAck:  r.loseAck,
		Restart:  r.restartLeader,
	}
}

// recreate deletes the log, if there is one, and initialises another.
func (r *rig) recreate() {
	r.t.Helper()
	err := r.js.DeleteStream(r.t.Context(), eventlog.StreamName)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		r.t.Fatal(err)
	}
	untilTaken(r.t, func() error {
		_, err := eventlog.Init(r.t.Context(), r.admin, eventlog.InitOptions{Replicas: len(r.servers), Actor: "tester"})
		return err
	})
}

// untilTaken repeats the creation of a stream while it is refused for what an earlier test did.
func untilTaken(t *testing.T, create func() error) {
	t.Helper()
	err := create()
	for notYet(err) && t.Context().Err() == nil {
		time.Sleep(5 * time.Millisecond)
		err = create()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// notYet tells the refusals that pass: the server still deletes the old stream's files,
// or the cluster has not noticed yet that a server came back.
func notYet(err error) bool {
	const noSuitablePeers, storeFailed = 10005, 10049
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == noSuitablePeers || api.ErrorCode == storeFailed)
}

func (r *rig) publish(bodies ...[]byte) {
	r.t.Helper()
	var acks []jetstream.PubAckFuture
	for _, body := range bodies {
		ack, err := r.js.PublishAsync(eventlog.Subject, body)
		if err != nil {
			r.t.Fatal(err)
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			r.t.Fatal(err)
		}
	}
}

func (r *rig) info() *jetstream.StreamInfo {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		stream, err := r.js.Stream(ctx, eventlog.StreamName)
		if err == nil {
			return stream.CachedInfo()
		}
		if ctx.Err() != nil {
			r.t.Errorf("stream info: %v", err)
			return &jetstream.StreamInfo{}
		}
	}
}

// loseAck swallows what the servers say until the next append is stored, and then cuts the connection.
func (r *rig) loseAck() {
	before := r.info().State.LastSeq
	r.proxy.deaf.Store(true)
	var watch sync.WaitGroup
	watch.Go(func() {
		for r.t.Context().Err() == nil && r.info().State.LastSeq == before {
			time.Sleep(2 * time.Millisecond)
		}
		r.proxy.cut()
	})
	r.t.Cleanup(watch.Wait)
}

// restartLeader restarts the server that leads the stream.
func (r *rig) restartLeader() {
	leader := r.info().Cluster.Leader
	for _, s := range r.servers {
		if s.Name() == leader {
			s.Stop()
			s.Start()
			return
		}
	}
	r.t.Errorf("no server is called %q", leader)
}

// position is the log's end.
func (r *rig) position() events.Position {
	r.t.Helper()
	last, err := r.log.Last(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return eventlogtest.Behind(last)
}
