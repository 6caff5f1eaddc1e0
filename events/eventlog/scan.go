package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// scanAhead is how much the server may send before it was worked through.
const scanAhead = 16 << 20

// Scan hands on the bodies of the log's messages as the server has them, from the first to the one that is the newest when it
// begins. Nothing is checked, and messages may be missing: it is for auditors, who have to find that out. All others Follow.
func (l *Log) Scan(ctx context.Context, deliver func(body []byte) error) error {
	info, err := l.state(ctx)
	if err != nil {
		return err
	}
	if info.State.Msgs == 0 {
		return nil
	}
	consumer, err := l.js.OrderedConsumer(ctx, StreamName, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return fmt.Errorf("scan the log: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(scanAhead))
	if err != nil {
		return fmt.Errorf("scan the log: %w", err)
	}
	defer messages.Stop()
	for {
		m, err := next(ctx, messages)
		if err != nil {
			return fmt.Errorf("scan the log: %w", err)
		}
		place, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("scan the log: %w", err)
		}
		if err := deliver(m.Data()); err != nil {
			return err
		}
		// Should the last messages be gone, it is said here that none are left.
		if place.Sequence.Stream >= info.State.LastSeq || place.NumPending == 0 {
			return nil
		}
	}
}

// next waits for a message, not without end: a server may have messages that it cannot read any more.
func next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the server says that there are more messages, and sends none"))
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(ctx))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return m, err
}
