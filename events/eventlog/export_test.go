package eventlog

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
)

// SetPatience makes tests short: how long a request may go unanswered, and how long a replicated stream may seem
// rolled back.
func (l *Log) SetPatience(attempt, rollback time.Duration) { l.attempt, l.patience = attempt, rollback }

// StreamConfig gives the tests what Init provisions, to spoil it.
var StreamConfig = streamConfig

// Message gives what Append would publish, so that benchmarks can fill a log fast.
func Message(after events.Position, c *events.Commit) (*nats.Msg, events.Entry, error) {
	body, err := c.Encode()
	return message(after, c, body), events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: after.StreamSeq + 1}, err
}
