package eventlog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

// TestFollowNoticesACut wants to hear of a lost connection at once, not after missed heartbeats.
func TestFollowNoticesACut(t *testing.T) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	at := r.position()
	began := time.Now()
	err := r.log.Follow(t.Context(), events.Position{}, func([]events.Entry) error {
		r.proxy.cut()
		return nil
	})
	if err == nil || errors.Is(err, events.ErrFork) || time.Since(began) > time.Second {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
	want, err := r.log.Append(t.Context(), at, eventlogtest.NewCommit(t, at, 1))
	if err != nil {
		t.Fatal(err)
	}
	done := errors.New("done")
	err = r.log.Follow(t.Context(), at, func(batch []events.Entry) error {
		if eventlogtest.Behind(batch[0]) != eventlogtest.Behind(want) {
			t.Errorf("went on with %+v", batch[0])
		}
		return done
	})
	if !errors.Is(err, done) {
		t.Fatalf("following again: %v", err)
	}
}

// TestFollowWaitsForASlowReader delivers for longer than the server may be silent: that is no silence of its.
func TestFollowWaitsForASlowReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	at := r.position()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := true
	err := r.log.Follow(ctx, events.Position{}, func(batch []events.Entry) error {
		if slow {
			slow = false
			time.Sleep(4 * time.Second) // the slowness itself
			e, err := r.log.Append(ctx, at, eventlogtest.NewCommit(t, at, 1))
			at = eventlogtest.Behind(e)
			return err
		}
		if eventlogtest.Behind(batch[len(batch)-1]) == at {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestFollowWithoutALog(t *testing.T) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	if err := r.js.DeleteStream(t.Context(), eventlog.StreamName); err != nil {
		t.Fatal(err)
	}
	err := r.log.Follow(t.Context(), events.Position{}, func([]events.Entry) error { return nil })
	if !errors.Is(err, eventlog.ErrNoLog) {
		t.Fatal(err)
	}
}

// TestFollowBelievesNothingOutOfTurn forges what a consumer would send that was ended, or whose messages were lost.
// (Messages of the stream cannot be forged: servers let no client use their reply subjects.)
func TestFollowBelievesNothingOutOfTurn(t *testing.T) {
	r := newRig(t, []*eventlogtest.Server{eventlogtest.StartServer(t)})
	for name, forged := range map[string]*nats.Msg{
		"a heartbeat further on": {Header: nats.Header{"Status": {"100"}, "Nats-Last-Consumer": {"7"}}},
		"an end":                 {Header: nats.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}}},
		"noise":                  {Data: []byte("noise")},
	} {
		t.Run(name, func(t *testing.T) {
			delivered := 0
			err := r.log.Follow(t.Context(), events.Position{}, func(batch []events.Entry) error {
				delivered += len(batch)
				forged.Subject = r.deliverSubject()
				return r.admin.PublishMsg(forged)
			})
			if err == nil || errors.Is(err, events.ErrFork) || errors.Is(err, context.Canceled) || delivered != 1 {
				t.Fatalf("delivered %d commits, then %v", delivered, err)
			}
		})
	}
}

// deliverSubject is where the stream's newest consumer delivers.
func (r *rig) deliverSubject() (subject string) {
	stream, err := r.js.Stream(r.t.Context(), eventlog.StreamName)
	if err != nil {
		r.t.Error(err)
		return ""
	}
	var newest time.Time
	for info := range stream.ListConsumers(r.t.Context()).Info() {
		if info.Created.After(newest) {
			newest, subject = info.Created, info.Config.DeliverSubject
		}
	}
	return subject
}
