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

const (
	// heartbeat is how often the server says that it has nothing to say.
	heartbeat = time.Second
	// unused is how long the server keeps a consumer that nobody listens to.
	unused = 5 * time.Second
	// startTimeout bounds each question at the start of Follow, so that its caller hears of a log that nobody serves.
	startTimeout = 10 * time.Second
	// mirrorPoll is how often a mirror that is behind is asked how far it has come.
	mirrorPoll = 100 * time.Millisecond
)

// errDisturbed says that the connection or the consumer failed. Following again from the position reached is safe
// and right: every check is then made anew.
var errDisturbed = errors.New("following the log was interrupted")

// Follow delivers the commits behind from, in order and each one once, and goes on with new ones as they come. It
// returns only with an error: ctx's, deliver's, one about the log itself (events.ErrGap, ErrFork, ErrIncarnation,
// ErrMalformed, ErrUnknownSchema, ErrUnknownType; ErrRollback), always after everything before the fault was delivered, or one
// of the connection. It never resumes by itself after a disturbance. deliver is called from one goroutine, with
// one commit or more, of about MaxBatchBytes at most, that it may keep.
//
// The consumer starts not behind from but at it: the message that held from's last commit must come first, and
// must still be that commit. So whatever happened to the stream before, while or after this reader was away, deletion
// and creation under the same name included, it is met by content, and there is no moment between a check and its use.
func (l *Log) Follow(ctx context.Context, from events.Position, deliver func([]events.Entry) error) error {
	if err := l.awaitEnd(ctx, from); err != nil {
		return err
	}
	status := l.nc.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer l.nc.RemoveStatusListener(status)
	in := newIntake(l.nc, from)
	if err := in.listen(); err != nil {
		return fmt.Errorf("%w: %w", errDisturbed, err)
	}
	defer in.close()
	if err := l.consume(ctx, in, from); err != nil {
		return err
	}
	return in.pump(ctx, status, deliver)
}

// consume makes the server send the log to in, at its own pace: it sends ahead by up to 32 MiB, and goes on when in
// says that it has worked through them. The consumer goes away by itself once nobody listens.
func (l *Log) consume(ctx context.Context, in *intake, from events.Position) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	_, err := ask(ctx, l.attempt, func(ctx context.Context) (jetstream.PushConsumer, error) {
		return l.js.CreateOrUpdatePushConsumer(ctx, StreamName, jetstream.ConsumerConfig{
			Name:              in.name,
			DeliverSubject:    in.sub.Subject,
			DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:       max(from.StreamSeq, 1),
			AckPolicy:         jetstream.AckNonePolicy,
			MaxDeliver:        1,
			FlowControl:       true,
			IdleHeartbeat:     heartbeat,
			InactiveThreshold: unused,
			MemoryStorage:     true,
			Replicas:          1,
		})
	})
	if err != nil {
		return fmt.Errorf("follow the log: %w", err)
	}
	return nil
}

// awaitEnd makes sure that the stream reaches from. A mirror may be behind, and is waited for.
func (l *Log) awaitEnd(ctx context.Context, from events.Position) error {
	var since time.Time
	for {
		info, err := l.state(ctx)
		if err != nil {
			return err
		}
		if info.State.LastSeq >= from.StreamSeq {
			return nil
		}
		if err := l.sameLog(ctx, info, from); err != nil {
			return err
		}
		// What a quorum has stored cannot be gone, but a leader that lost its quorum and has not noticed yet may answer
		// from before. Fleets stop for good on a rollback, so on a replicated stream it must be seen for a while.
		if since.IsZero() {
			since = time.Now()
		}
		if !l.mirror && (info.Config.Replicas <= 1 || time.Since(since) >= l.patience) {
			return fmt.Errorf("%w: it ends at message %d, Seq %d was in message %d",
				ErrRollback, info.State.LastSeq, from.Seq, from.StreamSeq)
		}
		if !pauseFor(ctx, mirrorPoll) {
			return ctx.Err()
		}
	}
}

func (l *Log) state(ctx context.Context) (*jetstream.StreamInfo, error) {
	short, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stream, err := l.stream(short)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("follow the log: %w: stream %s was not found", ErrNoLog, StreamName)
	case err != nil:
		return nil, fmt.Errorf("follow the log: %w", err)
	}
	return stream.CachedInfo(), nil
}

// sameLog compares the incarnation of the stream's first commit with from's, for a stream that is too short to hold
// from itself.
func (l *Log) sameLog(ctx context.Context, info *jetstream.StreamInfo, from events.Position) error {
	if info.State.Msgs == 0 {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	first, err := l.Read(short, info.State.FirstSeq)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrNoCommit): // gone since: asked again
		return nil
	case err != nil:
		return err
	case first.Commit.Incarnation != from.Incarnation:
		return fmt.Errorf("%w: had %s, found %s", events.ErrIncarnation, from.Incarnation, first.Commit.Incarnation)
	}
	return nil
}
