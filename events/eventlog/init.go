package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
)

// InitOptions say what log to create.
type InitOptions struct {
	Replicas   int                     // of the stream: 3 in production, 1 (also for 0) on a single server
	SigningKey events.PublicKey        // that signs the first heads and grants
	Settings   []events.SettingChanged // that hold from the beginning
	Actor      string                  // who runs it, for the record
}

// Init creates the log: the stream, and in it a commit with the event log_opened, which begins a new
// incarnation. Nothing else ever creates the stream. It returns the position behind that commit, or
// ErrAlreadyOpen. An interrupted Init is finished by running it again; of many that race, one wins.
//
// It must never be run because a log was not found where one had been: see Open's error.
func Init(ctx context.Context, nc *nats.Conn, opts InitOptions) (events.Position, error) {
	opts.Replicas = max(opts.Replicas, 1)
	l, err := newLog(nc, Options{})
	if err != nil {
		return events.Position{}, err
	}
	if err := l.provision(ctx, opts.Replicas); err != nil {
		return events.Position{}, fmt.Errorf("init: %w", err)
	}
	// A crash here leaves a stream that is empty. Open refuses it and says to run Init again, which finds it
	// provisioned and goes on below.
	entry, err := l.open(ctx, opts)
	// A crash before the answer arrives leaves the log open, and the next Init says so. Were the commit still under
	// way then, the next Init's would conflict with it or come first: both expect an empty stream.
	if err != nil {
		return events.Position{}, fmt.Errorf("init: %w", err)
	}
	return events.Position{}.Next(entry)
}

// provision creates the stream, or finds it as it was created before and still empty.
func (l *Log) provision(ctx context.Context, replicas int) error {
	want := streamConfig(replicas)
	// Creating the stream again with the very same settings is no error, so a lost answer is repeated without harm.
	stream, err := ask(ctx, l.attempt, func(ctx context.Context) (jetstream.Stream, error) {
		return l.js.CreateStream(ctx, want)
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		stream, err = l.stream(ctx)
	}
	if err != nil {
		return fmt.Errorf("create stream %s: %w", StreamName, err)
	}
	l.reader = stream
	info := stream.CachedInfo()
	if info.State.LastSeq > 0 {
		return ErrAlreadyOpen
	}
	if info.Config.Replicas != replicas {
		return fmt.Errorf("%w: stream %s exists, is empty and has %d replicas, not %d; ask for as many, or delete the stream",
			ErrUnsafe, StreamName, info.Config.Replicas, replicas)
	}
	return checkHub(info.Config)
}

// open writes the log's first commit, expecting an empty stream.
func (l *Log) open(ctx context.Context, opts InitOptions) (events.Entry, error) {
	incarnation := events.Incarnation(events.NewID())
	c := &events.Commit{
		Schema:      events.Schema,
		Incarnation: incarnation,
		First:       1,
		Time:        events.InstantOf(time.Now()),
	}
	admin := events.Admin{Actor: opts.Actor}.Plain()
	first := []events.Event{{Fact: &events.LogOpened{Incarnation: incarnation, SigningKey: opts.SigningKey}, Admin: admin}}
	for i := range opts.Settings {
		first = append(first, events.Event{Fact: &opts.Settings[i], Admin: admin})
	}
	if err := c.Add(first...); err != nil {
		return events.Entry{}, err
	}
	entry, err := l.Append(ctx, events.Position{}, c)
	switch {
	case errors.Is(err, events.ErrConflict):
		return entry, ErrAlreadyOpen
	case errors.Is(err, events.ErrOutcomeUnknown):
		return entry, fmt.Errorf("%w; run `keyfleet init` again, which finishes or says that all is done", err)
	}
	return entry, err
}
