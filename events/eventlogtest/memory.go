package eventlogtest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
)

// SigningKey is the private half of the key that every Memory names as its own.
var SigningKey = ed25519.NewKeyFromSeed([]byte("a log in memory has no secrets !"))

// Memory is a log in memory that keeps the contract of eventlog.Log. Its methods may be called concurrently.
type Memory struct {
	// Clock is the server's, as Now tells it: time.Now by default. Set it before use.
	Clock func() time.Time

	mu      sync.Mutex
	bodies  [][]byte      // of message 1 and on
	life    int           // how often the log was recreated
	changed chan struct{} // closed when bodies or life change
	faults  []Fault
}

// Fault is what happens to one append.
type Fault struct {
	// Before runs first, without locks. It may wait, or append another commit, so that this one meets a conflict.
	Before func()
	// LoseRequest keeps the commit from the log, and LoseAck only the answer from the caller. With either the append ends
	// in events.ErrOutcomeUnknown, at once. For a request that arrives late, append the same commit again.
	LoseRequest, LoseAck bool
}

// NewMemory gives a log that holds its first commit, as eventlog.Init leaves it.
func NewMemory() *Memory {
	m := &Memory{Clock: time.Now, changed: make(chan struct{})}
	m.recreate()
	return m
}

// Inject plans a fault for each of the next appends.
func (m *Memory) Inject(faults ...Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, faults...)
}

// Publish puts a message at the log's end as a stranger would, past all of Append's rules.
func (m *Memory) Publish(body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store(body)
}

// Append keeps the contract of eventlog.Log.Append.
func (m *Memory) Append(ctx context.Context, after events.Position, c *events.Commit) (events.Entry, error) {
	body, err := c.Encode()
	if err != nil {
		return events.Entry{}, err
	}
	e := events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: after.StreamSeq + 1}
	if _, err := after.Next(e); err != nil {
		return events.Entry{}, fmt.Errorf("append: the commit was not made for this position: %s", err.Error())
	}
	fault := m.nextFault()
	if fault.Before != nil {
		fault.Before()
	}
	if err := ctx.Err(); err != nil {
		return events.Entry{}, err
	}
	if !fault.LoseRequest {
		err = m.append(ctx, e, body)
	}
	if err == nil && (fault.LoseRequest || fault.LoseAck) {
		err = fmt.Errorf("append Seq %d: %w: a test lost it", c.First, events.ErrOutcomeUnknown)
	}
	return e, err
}

func (m *Memory) nextFault() Fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.faults) == 0 {
		return Fault{}
	}
	fault := m.faults[0]
	m.faults = m.faults[1:]
	return fault
}

func (m *Memory) append(ctx context.Context, e events.Entry, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uint64(len(m.bodies)) < e.StreamSeq-1 { // the log does not reach so far: as with JetStream, it may yet
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		m.mu.Lock()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("append Seq %d: %w: %w", e.Commit.First, events.ErrOutcomeUnknown, err)
		}
	}
	if uint64(len(m.bodies)) == e.StreamSeq-1 {
		m.store(body)
		return nil
	}
	if events.HashCommit(m.bodies[e.StreamSeq-1]) == e.Chain {
		return nil // our own, from an attempt whose answer was lost
	}
	return fmt.Errorf("append Seq %d: %w", e.Commit.First, events.ErrConflict)
}

// Last keeps the contract of eventlog.Log.Last.
func (m *Memory) Last(context.Context) (events.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entry(uint64(len(m.bodies)))
}

// Read keeps the contract of eventlog.Log.Read.
func (m *Memory) Read(_ context.Context, streamSeq uint64) (events.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entry(streamSeq)
}

// Now tells Clock's time.
func (m *Memory) Now(context.Context) (time.Time, error) { return m.Clock(), nil }

// Follow keeps the contract of eventlog.Log.Follow.
func (m *Memory) Follow(ctx context.Context, from events.Position, deliver func([]events.Entry) error) error {
	life, err := m.begin(from)
	if err != nil {
		return err
	}
	position := from
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, changed, err := m.atHand(life, &position)
		if len(batch) > 0 {
			if err := deliver(batch); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// begin checks that from is still where it was.
func (m *Memory) begin(from events.Position) (life int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from.Seq == 0 {
		return m.life, nil
	}
	if first, err := m.entry(1); err == nil && first.Commit.Incarnation != from.Incarnation {
		return 0, fmt.Errorf("%w: had %s, found %s", events.ErrIncarnation, from.Incarnation, first.Commit.Incarnation)
	}
	if uint64(len(m.bodies)) < from.StreamSeq {
		return 0, fmt.Errorf("%w: it ends at message %d", eventlog.ErrRollback, len(m.bodies))
	}
	if from.StreamSeq == 0 || events.HashCommit(m.bodies[from.StreamSeq-1]) != from.Chain {
		return 0, fmt.Errorf("%w: message %d is another one now", events.ErrFork, from.StreamSeq)
	}
	return m.life, nil
}

// atHand takes up to a batch of what follows position, and moves it.
func (m *Memory) atHand(life int, position *events.Position) ([]events.Entry, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if life != m.life {
		return nil, nil, errors.New("following the log was interrupted: it was recreated")
	}
	var batch []events.Entry
	for size := 0; size < eventlog.MaxBatchBytes && position.StreamSeq < uint64(len(m.bodies)); {
		streamSeq := position.StreamSeq + 1
		e, err := m.entry(streamSeq)
		if err != nil {
			return batch, nil, err
		}
		next, err := position.Next(e)
		if err != nil {
			return batch, nil, fmt.Errorf("stream message %d: %w", streamSeq, err)
		}
		*position = next
		batch = append(batch, e)
		size += len(m.bodies[streamSeq-1])
	}
	return batch, m.changed, nil
}

// entry decodes a message. The lock is held.
func (m *Memory) entry(streamSeq uint64) (events.Entry, error) {
	if streamSeq == 0 || streamSeq > uint64(len(m.bodies)) {
		return events.Entry{}, eventlog.ErrNoCommit
	}
	body := m.bodies[streamSeq-1]
	c, err := events.DecodeCommit(body)
	if err != nil {
		return events.Entry{}, fmt.Errorf("stream message %d: %w", streamSeq, err)
	}
	return events.Entry{Commit: c, Chain: events.HashCommit(body), StreamSeq: streamSeq}, nil
}

// store adds a message and tells whoever waits. The lock is held.
func (m *Memory) store(body []byte) {
	m.bodies = append(m.bodies, body)
	m.wake()
}

func (m *Memory) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// recreate throws the log away and opens a new one.
func (m *Memory) recreate() {
	c := &events.Commit{Schema: events.Schema, Incarnation: events.NewID(), First: 1, Time: events.InstantOf(m.Clock())}
	opened := &events.LogOpened{Incarnation: c.Incarnation, SigningKey: events.PublicKey(SigningKey[ed25519.SeedSize:])}
	err := c.Add(events.Event{Fact: opened, Admin: events.Admin{Actor: "tester"}.Plain()})
	body, encodeErr := c.Encode()
	if err = errors.Join(err, encodeErr); err != nil {
		panic(err) // one small event always fits
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bodies = nil
	m.life++
	m.store(body)
}
