package main

import (
	"context"
	"sync"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

// line is all that a verifier hears and says. While it is held nothing passes, as if the verifier's network were frozen.
type line struct {
	source projections.Source
	uplink verifier.Uplink

	mu   sync.Mutex
	free chan struct{} // closed while things pass
}

func newLine(source projections.Source, uplink verifier.Uplink) *line {
	l := &line{source: source, uplink: uplink, free: make(chan struct{})}
	close(l.free)
	return l
}

func (l *line) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = make(chan struct{})
}

func (l *line) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.free)
}

func (l *line) freed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free
}

func (l *line) passes() bool {
	select {
	case <-l.freed():
		return true
	default:
		return false
	}
}

// pass waits until things pass.
func (l *line) pass(ctx context.Context) error {
	select {
	case <-l.freed():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *line) Follow(ctx context.Context, from events.Position, deliver func([]events.Entry) error) error {
	return l.source.Follow(ctx, from, func(entries []events.Entry) error {
		if err := l.pass(ctx); err != nil {
			return err
		}
		return deliver(entries)
	})
}

func (l *line) Renew(ctx context.Context, r head.Renewal) ([]byte, error) {
	if err := l.pass(ctx); err != nil {
		return nil, err
	}
	return l.uplink.Renew(ctx, r)
}

// Acknowledge on a held line is lost: a verifier does not wait for it.
func (l *line) Acknowledge(a head.Ack) {
	if l.passes() {
		l.uplink.Acknowledge(a)
	}
}

func (l *line) Goodbye(ctx context.Context, g head.Goodbye) error {
	if !l.passes() {
		return verifier.ErrUnsent
	}
	return l.uplink.Goodbye(ctx, g)
}
