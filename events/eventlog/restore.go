package eventlog

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
)

// restoring is in the metadata of a stream that is being filled from an archive. Open refuses it: half of a log would
// bring back keys that the other half deletes.
const restoring = "keyfleet-restoring"

// RestoreOptions say what log to begin anew.
type RestoreOptions struct {
	InitOptions
	Opened events.Instant // when the log was opened that is brought back: no commit may be dated earlier
	Reason string         // for the record: what it is brought back from
}

// Restore begins a new incarnation of a log whose commits the caller brings back by Append, behind the position that is returned, and then
// makes known by Restored. Until then nobody can open it. An interrupted restore is finished by doing all of it again with the same
// options and the same commits; a log that is there already is ErrAlreadyOpen.
func Restore(ctx context.Context, nc *nats.Conn, opts RestoreOptions) (*Log, events.Position, error) {
	opts.Replicas = max(opts.Replicas, 1)
	l, err := newLog(nc, Options{})
	if err != nil {
		return nil, events.Position{}, err
	}
	l.replicas = opts.Replicas
	want := streamConfig(opts.Replicas)
	want.Metadata = map[string]string{restoring: "true"}
	l.reader, err = ask(ctx, l.attempt, func(ctx context.Context) (jetstream.Stream, error) { return l.js.CreateStream(ctx, want) })
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		l.reader, err = l.stream(ctx)
	}
	if err != nil {
		return nil, events.Position{}, fmt.Errorf("restore: %w", err)
	}
	found := l.reader.CachedInfo().Config
	if found.Metadata[restoring] == "" {
		return nil, events.Position{}, fmt.Errorf("restore: %w", ErrAlreadyOpen)
	}
	found.Metadata = maps.Clone(found.Metadata)
	delete(found.Metadata, restoring)
	if err := checkHub(found); err != nil {
		return nil, events.Position{}, err
	}
	first, err := l.reopen(ctx, opts)
	if err != nil {
		return nil, events.Position{}, fmt.Errorf("restore: %w", err)
	}
	at, err := events.Position{}.Next(first)
	return l, at, err
}

// reopen finds the commit that an interrupted restore has opened the log with, or writes it.
func (l *Log) reopen(ctx context.Context, opts RestoreOptions) (events.Entry, error) {
	incarnation := events.Incarnation(events.NewID())
	first, err := l.Read(ctx, 1)
	if err == nil {
		incarnation = first.Commit.Incarnation
	} else if !errors.Is(err, ErrNoCommit) {
		return events.Entry{}, err
	}
	opening := events.Event{
		Fact:  &events.LogOpened{Incarnation: incarnation, SigningKey: opts.SigningKey},
		Admin: events.Admin{Actor: opts.Actor, Reason: &opts.Reason}.Plain(),
	}
	c := &events.Commit{Schema: events.Schema, Incarnation: incarnation, First: 1, Time: opts.Opened}
	if err := c.Add(opening); err != nil {
		return events.Entry{}, err
	}
	entry, err := l.Append(ctx, events.Position{}, c)
	if errors.Is(err, events.ErrConflict) {
		return entry, fmt.Errorf("%w: stream %s holds the beginning of a restore from something else, or under another key; "+
			"finish that one, or delete the stream", ErrUnsafe, StreamName)
	}
	return entry, err
}

// Restored makes the log one that can be opened.
func (l *Log) Restored(ctx context.Context) error {
	_, err := ask(ctx, l.attempt, func(ctx context.Context) (jetstream.Stream, error) {
		return l.js.UpdateStream(ctx, streamConfig(l.replicas))
	})
	if err != nil {
		return fmt.Errorf("restore: make the log known: %w", err)
	}
	return nil
}
