package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
)

// outcome is what is known after one attempt to publish.
type outcome int

const (
	unknown  outcome = iota // it may be durable, now or later
	durable                 // it stands where it was to go, and on disk
	conflict                // the stream does not, or not yet, end where it was to go
	refused                 // this attempt wrote nothing, and another would not either
)

// Append writes c directly behind after, or nothing. It returns once the outcome is known:
//
//   - nil: c is durable, on as many disks as the stream has a quorum;
//   - events.ErrConflict: another commit stands there, and c never will;
//   - events.ErrOutcomeUnknown: ctx ended first, or the connection was closed for good. c may be durable, now or
//     later: only the same bytes appended again, or the commit that stands there, settle it;
//   - any other error: nothing was written, and the reason will not pass by itself.
//
// Until then it retries by itself, always with the same bytes, so callers need not. A lone append costs one
// round trip.
func (l *Log) Append(ctx context.Context, after events.Position, c *events.Commit) (events.Entry, error) {
	if l.readOnly {
		return events.Entry{}, ErrReadOnly
	}
	body, err := c.Encode() // once: retries must repeat these bytes, or their chain hash would not be recognised
	if err != nil {
		return events.Entry{}, err
	}
	e := events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: after.StreamSeq + 1}
	if _, err := after.Next(e); err != nil { // the caller's mistake, which says nothing about the log: not wrapped
		return events.Entry{}, fmt.Errorf("append: the commit was not made for this position: %s", err.Error())
	}
	if err := ctx.Err(); err != nil {
		return events.Entry{}, err
	}
	return e, l.settle(ctx, message(after, c, body), e)
}

// settle publishes m, which holds e, until its outcome is known.
func (l *Log) settle(ctx context.Context, m *nats.Msg, e events.Entry) error {
	lost := false // an earlier attempt went out and was never answered
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		result, err := l.publish(ctx, m, e)
		if result == conflict {
			// Somebody else was first; or we were, and the answer was lost; or, on a replicated stream, the
			// leader has accepted a message that is not committed yet and may never be. What stands there decides.
			result, err = l.whatStands(ctx, e)
		}
		switch {
		case result == durable:
			return nil
		case result == conflict:
			// Final even if an earlier attempt is still under way: it expects the end that has now gone by.
			return err
		case result == refused && !lost:
			return err
		}
		// Unanswered, refused after an earlier attempt was lost, or nothing stands there yet. The bytes may lie in a
		// socket, in a server's queue or in a follower's log, and be stored after any read that we could make now:
		// a read alone never settles it. Publishing them again does, since at most one attempt can find the
		// stream's end where all of them expect it.
		lost = lost || result == unknown
		if errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("append Seq %d: %w: %w", e.Commit.First, events.ErrOutcomeUnknown, err)
		}
		if !pauseFor(ctx, pause) {
			return fmt.Errorf("append Seq %d: %w: %w (%w)", e.Commit.First, events.ErrOutcomeUnknown, ctx.Err(), err)
		}
	}
}

// publish makes one attempt.
func (l *Log) publish(ctx context.Context, m *nats.Msg, e events.Entry) (outcome, error) {
	attempt, cancel := context.WithTimeout(ctx, l.attempt)
	defer cancel()
	ack, err := l.js.PublishMsg(attempt, m, jetstream.WithRetryAttempts(0))
	if err != nil {
		return judge(err), err
	}
	if ack.Stream != StreamName || ack.Duplicate || ack.Sequence != e.StreamSeq {
		// We set no message id and expect one place only, so this is not the answer that our request can have: another
		// stream took the subject over, or something in between rewrote the headers. Believe what stands there.
		return conflict, nil
	}
	return durable, nil
}

// JetStream's error codes, see jetstream_errors_generated.go in the server. Only those are listed as refusals
// that it gives before it stores or proposes anything.
const (
	codeWrongLastSequence         = 10071
	codeWrongLastSequenceConstant = 10164
	codeAccountResourcesExceeded  = 10002
	codeInsufficientResources     = 10023
	codeMessageTooLarge           = 10054
	codeHeadersTooLarge           = 10097
	codeStreamSealed              = 10109
)

// judge tells from an error what became of the attempt. Whatever is not known for certain is unknown.
func judge(err error) outcome {
	if errors.Is(err, nats.ErrMaxPayload) { // found by our own client, before it sent anything
		return refused
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return unknown
	}
	switch api.ErrorCode {
	case codeWrongLastSequence, codeWrongLastSequenceConstant:
		return conflict
	case codeAccountResourcesExceeded, codeInsufficientResources, codeMessageTooLarge, codeHeadersTooLarge, codeStreamSealed:
		return refused
	}
	return unknown
}

// whatStands reads the place where e was to go, from the stream's leader. What a leader shows there is committed: even
// one that was deposed shows only what the stream will always hold.
func (l *Log) whatStands(ctx context.Context, e events.Entry) (outcome, error) {
	m, err := ask(ctx, l.attempt, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return l.reader.GetMsg(ctx, e.StreamSeq)
	})
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return unknown, fmt.Errorf("stream message %d: %w", e.StreamSeq, ErrNoCommit)
	case err != nil:
		return unknown, err
	case events.HashCommit(m.Data) == e.Chain:
		return durable, nil
	}
	return conflict, fmt.Errorf("append Seq %d: %w", e.Commit.First, events.ErrConflict)
}

// message puts a commit on the wire. Readers never trust the Keyfleet headers: they are for stock tools and for
// people, and mirrors may strip them.
func message(after events.Position, c *events.Commit, body []byte) *nats.Msg {
	m := nats.NewMsg(Subject)
	m.Data = body
	m.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(after.StreamSeq, 10))
	m.Header.Set("Keyfleet-Seq", strconv.FormatUint(uint64(c.First), 10))
	m.Header.Set("Keyfleet-Events", strconv.Itoa(len(c.Events())))
	var types, projects distinct
	for i := range c.Events() {
		types.add(string(c.Events()[i].Fact.Type()))
		projects.add(c.Events()[i].Project)
	}
	m.Header.Set("Keyfleet-Types", types.list(len(types)))
	if len(projects) > 0 {
		m.Header.Set("Keyfleet-Projects", projects.list(16))
	}
	return m
}

// distinct collects words in the order in which they first came. There are few: a search is faster than a map.
type distinct []string

func (d *distinct) add(word string) {
	if word == "" {
		return
	}
	for i := len(*d) - 1; i >= 0; i-- {
		if (*d)[i] == word {
			return
		}
	}
	*d = append(*d, word)
}

// list gives the first words, and says when there are more.
func (d distinct) list(most int) string {
	if len(d) > most {
		return strings.Join(d[:most], ",") + ",…"
	}
	return strings.Join(d, ",")
}
