package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options say which log to open and what for.
type Options struct {
	// Domain is the JetStream domain that holds the stream; empty for the server's own.
	Domain string
	// Mirror opens a PoP's copy of the log instead of the log itself. It implies ReadOnly. A mirror that is
	// behind, even empty, is not an error.
	Mirror bool
	// ReadOnly makes Append refuse. A reader acknowledges nothing to anybody, so SyncAlways is not asked.
	ReadOnly bool
	// SyncAlways returns nil if each of the servers, given by name, syncs every JetStream write to disk before
	// it acknowledges it (sync_interval: always), and else an error that names one that does not, or that could not
	// be asked. Without it Open refuses to write: see AskServers, which asks over a system account; a process
	// that embeds its server looks at the server's own options.
	SyncAlways func(ctx context.Context, servers []string) error
}

// Log is an open log. Its methods may be called concurrently; of Append, one at a time makes progress.
type Log struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	reader   jetstream.Stream // as Open found it: with AllowDirect off, its reads go to the stream's leader
	mirror   bool
	readOnly bool
	replicas int // of a log that is being restored

	attempt  time.Duration // how long one request may go unanswered before it is made again
	patience time.Duration // how long a replicated stream may seem to end too early before it is believed
}

// The defaults of Log's durations. A NATS server that lost its quorum goes on answering as a leader for 10 s.
const (
	attemptTimeout   = 2 * time.Second
	rollbackPatience = 15 * time.Second
)

// Open finds the log, and refuses one that would not keep its promises. It creates nothing. While no server
// answers it keeps asking until ctx ends.
func Open(ctx context.Context, nc *nats.Conn, opts Options) (*Log, error) {
	l, err := newLog(nc, opts)
	if err != nil {
		return nil, err
	}
	l.reader, err = l.stream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, missing(opts)
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	if err := l.check(ctx, l.reader.CachedInfo(), opts); err != nil {
		return nil, err
	}
	return l, nil
}

// check refuses a stream, or a server, that does not keep the log's promises.
func (l *Log) check(ctx context.Context, info *jetstream.StreamInfo, opts Options) error {
	if l.mirror {
		return checkMirror(info.Config)
	}
	if err := checkHub(info.Config); err != nil {
		return err
	}
	if info.State.LastSeq == 0 {
		return fmt.Errorf("%w yet: stream %s is empty, as an init leaves it that was interrupted; run `keyfleet init` again",
			ErrNoLog, StreamName)
	}
	if l.readOnly {
		return nil
	}
	if most := l.nc.MaxPayload(); most < minPayload {
		return fmt.Errorf("%w: the NATS server at %s passes on messages of up to %d bytes, and a commit may need %d; set its "+
			"max_payload to at least that (1MB is its default)", ErrUnsafe, l.nc.ConnectedUrlRedacted(), most, minPayload)
	}
	return checkServers(ctx, info, opts.SyncAlways)
}

// Replicas is how many servers kept the log when it was opened.
func (l *Log) Replicas() int { return l.reader.CachedInfo().Config.Replicas }

func newLog(nc *nats.Conn, opts Options) (*Log, error) {
	js, err := jetstream.New(nc)
	if opts.Domain != "" {
		js, err = jetstream.NewWithDomain(nc, opts.Domain)
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return &Log{
		nc:       nc,
		js:       js,
		mirror:   opts.Mirror,
		readOnly: opts.ReadOnly || opts.Mirror,
		attempt:  attemptTimeout,
		patience: rollbackPatience,
	}, nil
}

// missing says what to do without inviting the one mistake that cannot be undone: a server started with a wrong
// encryption key does not see its streams, and creating one under the same name deletes the old one's files.
func missing(opts Options) error {
	if opts.Mirror {
		return fmt.Errorf("%w: JetStream domain %q has no stream %s; set up this PoP's mirror of the log",
			ErrNoLog, opts.Domain, StreamName)
	}
	return fmt.Errorf("%w: stream %s was not found. If this is a new installation, run `keyfleet init`. If there was a log "+
		"before, do not: first check that the server runs on the right store_dir and with the right encryption key, since one "+
		"with the wrong key finds no stream either, and init would then destroy the log's files", ErrNoLog, StreamName)
}
