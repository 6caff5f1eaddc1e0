package verifier_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/registry"
)

// trick is what a line does to one batch. What is delivered twice, package eventlog passes over.
type trick int

const (
	noTrick trick = iota
	loseBatch
	reverseBatch
	halveBatch
	tricks
)

// line is a network between two machines.
type line struct {
	w *world

	mu    sync.Mutex
	dead  bool          // so is the machine
	cut   bool          // nothing arrives
	mute  bool          // no answers arrive
	late  time.Duration // by which calls are
	now   trick         // that is done to the next batch
	other chan struct{} // closed when any of these changes
}

func newLine(w *world) *line { return &line{w: w, other: make(chan struct{})} }

func (l *line) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.other)
	l.other = make(chan struct{})
}

func (l *line) die()  { l.set(func() { l.dead = true }) }
func (l *line) heal() { l.set(func() { l.cut, l.mute, l.late, l.now = false, false, 0, noTrick }) }

// quick reports whether something arrives that nobody waits for.
func (l *line) quick() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.dead && !l.cut
}

// answers is passes for the way back.
func (l *line) answers(ctx context.Context) bool {
	l.mu.Lock()
	mute := l.mute
	l.mu.Unlock()
	return !mute && l.passes(ctx)
}

// passes waits as long as the line takes, and reports whether anything arrives.
func (l *line) passes(ctx context.Context) bool {
	l.mu.Lock()
	late := l.late
	l.mu.Unlock()
	if late > 0 {
		select {
		case <-time.After(late):
		case <-ctx.Done():
			return false
		}
	}
	for {
		l.mu.Lock()
		dead, cut, other := l.dead, l.cut, l.other
		l.mu.Unlock()
		if !cut || dead {
			return !dead
		}
		select {
		case <-other: // what was on the way arrives late
		case <-ctx.Done():
			return false
		}
	}
}

// distantLog is the log at the other end of a line.
type distantLog struct {
	*eventlogtest.Memory
	line *line
}

func (d *distantLog) Append(ctx context.Context, after events.Position, c *events.Commit) (events.Entry, error) {
	if !d.line.passes(ctx) {
		return events.Entry{}, fmt.Errorf("append: %w: %w", events.ErrOutcomeUnknown, errLine)
	}
	e, err := d.Memory.Append(ctx, after, c)
	if !d.line.passes(ctx) {
		return events.Entry{}, fmt.Errorf("append: %w: %w", events.ErrOutcomeUnknown, errLine)
	}
	return e, err
}

func (d *distantLog) Last(ctx context.Context) (events.Entry, error) {
	if !d.line.passes(ctx) {
		return events.Entry{}, errLine
	}
	return d.Memory.Last(ctx)
}

func (d *distantLog) Read(ctx context.Context, streamSeq uint64) (events.Entry, error) {
	if !d.line.passes(ctx) {
		return events.Entry{}, errLine
	}
	return d.Memory.Read(ctx, streamSeq)
}

func (d *distantLog) Now(ctx context.Context) (time.Time, error) {
	if !d.line.passes(ctx) {
		return time.Time{}, errLine
	}
	return d.Memory.Now(ctx)
}

var errTricked = errors.New("the connection broke in the middle of a batch")

// Follow ends whenever something happens to the line.
func (d *distantLog) Follow(parent context.Context, from events.Position, deliver func([]events.Entry) error) error {
	if !d.line.passes(parent) {
		return errors.Join(parent.Err(), errLine)
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	d.line.mu.Lock()
	other := d.line.other
	d.line.mu.Unlock()
	go func() {
		select {
		case <-other:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := d.Memory.Follow(ctx, from, func(entries []events.Entry) error { return d.line.play(entries, deliver) })
	if parent.Err() == nil && ctx.Err() != nil {
		return errLine
	}
	return err
}

// play delivers a batch as it is, or not quite.
func (l *line) play(entries []events.Entry, deliver func([]events.Entry) error) error {
	l.mu.Lock()
	now := l.now
	l.now = noTrick
	l.mu.Unlock()
	switch now {
	case loseBatch:
		return nil
	case reverseBatch:
		if len(entries) > 1 {
			entries = slices.Clone(entries)
			slices.Reverse(entries)
		}
		return deliver(entries)
	case halveBatch:
		return errors.Join(deliver(entries[:(len(entries)+1)/2]), errTricked)
	default:
		return deliver(entries)
	}
}

// The election's times: the bucket forgets who is elected somewhat later than whoever was elected believes in it.
const (
	electionTTL = 3 * time.Second
	putEvery    = 500 * time.Millisecond
)

// office is the election. It errs when it is told to.
type office struct {
	mu       sync.Mutex
	revision uint64
	holder   *seat
}

// candidate is a registry at the end of a line.
type candidate struct {
	*office
	hub  *hub
	line *line
}

type seat struct {
	candidate
	revision uint64
	stop     func()

	mu    sync.Mutex
	put   time.Duration // when the last put was sent, by the registry's clock
	until time.Time     // when the bucket forgets
}

func (c candidate) Win(ctx context.Context) (registry.Leadership, error) {
	for {
		if c.line.passes(ctx) {
			if s := c.elect(); s != nil {
				return s, nil
			}
		}
		select {
		case <-time.After(putEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c candidate) elect() *seat {
	c.office.mu.Lock()
	defer c.office.mu.Unlock()
	if h := c.holder; h != nil && time.Now().Before(h.until) {
		return nil
	}
	c.revision++
	ctx, cancel := context.WithCancel(context.Background())
	s := &seat{candidate: c, revision: c.revision, stop: cancel, put: c.hub.clock.Elapsed(), until: time.Now().Add(electionTTL)}
	c.office.holder = s
	go s.keep(ctx)
	return s
}

func (s *seat) keep(ctx context.Context) {
	for {
		select {
		case <-time.After(putEvery):
		case <-ctx.Done():
			return
		}
		sent := s.hub.clock.Elapsed()
		if !s.line.passes(ctx) {
			continue
		}
		s.office.mu.Lock()
		if s.office.holder == s {
			s.until = time.Now().Add(electionTTL)
			s.mu.Lock()
			s.put = sent
			s.mu.Unlock()
		}
		s.office.mu.Unlock()
	}
}

func (s *seat) Revision() uint64 { return s.revision }

func (s *seat) SelfLease() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put + registry.SelfLease
}

func (s *seat) Resign() {
	s.stop()
	s.office.mu.Lock()
	defer s.office.mu.Unlock()
	if s.office.holder == s && s.line.quick() {
		s.office.holder = nil
	}
}

// err forgets who is elected, at once: another may be, beside it.
func (o *office) err() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holder = nil
}
