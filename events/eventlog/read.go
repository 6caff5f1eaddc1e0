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

// Last reads the newest commit, from the stream's leader; ErrNoCommit on an empty mirror. A leader that was
// deposed and does not know it yet may answer with an older one.
func (l *Log) Last(ctx context.Context) (events.Entry, error) {
	return l.read(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return l.reader.GetLastMsgForSubject(ctx, Subject)
	})
}

// Read reads the commit in the stream's message of that sequence, from the stream's leader; ErrNoCommit where
// there is none.
func (l *Log) Read(ctx context.Context, streamSeq uint64) (events.Entry, error) {
	return l.read(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return l.reader.GetMsg(ctx, streamSeq)
	})
}

// Now reads the clock of the server that leads the stream. The instant lies between call and return.
func (l *Log) Now(ctx context.Context) (time.Time, error) {
	stream, err := l.stream(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the server's time: %w", err)
	}
	now := stream.CachedInfo().TimeStamp
	if now.IsZero() {
		return time.Time{}, errors.New("ask the server's time: it does not tell; NATS server 2.10 or later is needed")
	}
	return now, nil
}

func (l *Log) read(ctx context.Context, get func(context.Context) (*jetstream.RawStreamMsg, error)) (events.Entry, error) {
	m, err := ask(ctx, l.attempt, get)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return events.Entry{}, ErrNoCommit
	}
	if err != nil {
		return events.Entry{}, fmt.Errorf("read the log: %w", err)
	}
	c, err := events.DecodeCommit(m.Data)
	if err != nil {
		return events.Entry{}, fmt.Errorf("stream message %d: %w", m.Sequence, err)
	}
	return events.Entry{Commit: c, Chain: events.HashCommit(m.Data), StreamSeq: m.Sequence}, nil
}

// stream asks how the stream is now.
func (l *Log) stream(ctx context.Context) (jetstream.Stream, error) {
	return ask(ctx, l.attempt, func(ctx context.Context) (jetstream.Stream, error) {
		return l.js.Stream(ctx, StreamName)
	})
}

// Pauses between attempts at a request.
const (
	firstPause = 5 * time.Millisecond
	longPause  = 250 * time.Millisecond
)

// ask makes short attempts at a request that changes nothing, or is safe to repeat, until one is answered or ctx ends:
// a cluster without a leader does not refuse requests, it lets them vanish.
func ask[T any](ctx context.Context, attempt time.Duration, request func(context.Context) (T, error)) (T, error) {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		short, cancel := context.WithTimeout(ctx, attempt)
		answer, err := request(short)
		cancel()
		if err == nil || !unanswered(err) {
			return answer, err
		}
		if !pauseFor(ctx, pause) {
			return answer, fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
	}
}

// unanswered tells a request that reached nobody who could answer it from one that was answered with a refusal.
func unanswered(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == 503 // no leader, or JetStream is starting
	}
	for _, passing := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse,
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
