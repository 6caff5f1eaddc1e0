package natsapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
)

// UsageTaker adds usage up: a registry.Service.
type UsageTaker interface {
	UsagePlace() (catalog.UsagePlace, error)
	TakeUsage(context.Context, registry.UsageMessage) error
}

// UsageOptions say how the stream of usage is kept.
type UsageOptions struct {
	Replicas int           // of a stream that has to be created; default 1
	Look     time.Duration // how often it is looked for what is new; default 5 s
	Log      *slog.Logger  // default: discarded
}

// Usage reads the stream of usage, which it creates where it is missing.
type Usage struct {
	js   jetstream.JetStream
	to   UsageTaker
	opts UsageOptions
}

// NewUsage makes a Usage that uses nc. It does nothing before Run.
func NewUsage(nc *nats.Conn, to UsageTaker, opts UsageOptions) (*Usage, error) {
	js, err := jetstream.New(nc)
	if opts.Look == 0 {
		opts.Look = 5 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Usage{js: js, to: to, opts: opts}, err
}

// What the stream remembers: enough for registries that stand by, or are down for a while.
const (
	usageAge   = 7 * 24 * time.Hour
	usageBytes = 256 << 20
)

// Run takes what verifiers report until ctx ends. It is looked for at intervals, and not pushed: that needs no consumer
// at the server, and notices a stream that was made anew.
func (u *Usage) Run(ctx context.Context) {
	for failed := 0; ; {
		err := u.takeNew(ctx)
		if failed++; err == nil {
			failed = 0
		} else if ctx.Err() == nil && failed%60 == 3 { // servers that elect a leader are no news
			u.opts.Log.Warn("verifiers' counts of uses cannot be read for now", "error", err)
		}
		select {
		case <-time.After(u.opts.Look):
		case <-ctx.Done():
			return
		}
	}
}

// takeNew takes all that has come since the last time.
func (u *Usage) takeNew(ctx context.Context) error {
	stream, err := u.stream(ctx)
	if err != nil {
		return fmt.Errorf("stream %s: %w", usage.StreamName, err)
	}
	at, err := u.to.UsagePlace()
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if created := info.Created.UnixNano(); at.Stream != created {
		at = catalog.UsagePlace{Stream: created}
	}
	for at.Seq < info.State.LastSeq {
		if at.Seq, err = u.takeNext(ctx, stream, at); err != nil {
			return err
		}
	}
	return nil
}

// takeNext takes the first message behind the place, and returns its sequence.
func (u *Usage) takeNext(ctx context.Context, stream jetstream.Stream, at catalog.UsagePlace) (uint64, error) {
	m, err := stream.GetMsg(ctx, at.Seq+1, jetstream.WithGetMsgSubject(usage.Subject+"*"))
	if err != nil {
		return at.Seq, err
	}
	err = u.to.TakeUsage(ctx, registry.UsageMessage{
		Verifier: strings.TrimPrefix(m.Subject, usage.Subject),
		Data:     m.Data,
		Stored:   m.Time,
		At:       catalog.UsagePlace{Stream: at.Stream, Seq: m.Sequence},
	})
	return m.Sequence, err
}

// stream leaves one that is there as it is: its limits are the operator's to change.
func (u *Usage) stream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := u.js.Stream(ctx, usage.StreamName)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	return u.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:        usage.StreamName,
		Description: "how often keys were let in, as verifiers counted; what is old is forgotten",
		Subjects:    []string{usage.Subject + "*"},
		Storage:     jetstream.FileStorage,
		Replicas:    max(u.opts.Replicas, 1),
		MaxAge:      usageAge,
		MaxBytes:    usageBytes,
		MaxMsgSize:  usage.MaxBytes,
	})
}
