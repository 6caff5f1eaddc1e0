package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// maxGroup is how many commands are decided for one commit.
const maxGroup = 1000

// line is the way of commands through the one loop that decides them: those of one group are made durable while
// those of the next are decided, on the state as it will be then. If a group does not become durable, the one behind it was
// decided on what never happened: both are decided again.
type line struct {
	s       *Service
	l       *leading
	waiting []*call    // taken in, to be decided before what is still to be taken in
	open    *group     // takes commands in; nil while there are none
	flying  *group     // is being made durable,
	landed  chan error // and how that ends
}

// carryOut decides commands in groups, one commit each, until the term ends.
func (s *Service) carryOut(ctx context.Context, l *leading) error {
	w := &line{s: s, l: l, landed: make(chan error, 1)}
	for {
		err := w.await(ctx)
		if err == nil {
			err = w.decide()
		}
		if err == nil && w.flying == nil && w.open != nil {
			err = w.launch(ctx)
		}
		if err != nil {
			w.breakOff(err)
			return err
		}
	}
}

// await returns once there is something to do. With nothing at hand it waits for a command, or for the next end of
// a lifetime: a lone command waits for nobody.
func (w *line) await(ctx context.Context) error {
	if w.flying == nil && len(w.waiting) > 0 {
		return nil
	}
	calls := w.s.calls
	if w.flying == nil {
		return w.awaitFirst(ctx)
	}
	if len(w.waiting) > 0 { // the open group has no room
		calls = nil
	}
	select {
	case err := <-w.landed:
		return w.land(ctx, err)
	case c := <-calls:
		w.waiting = append(w.waiting, c)
		return nil
	}
}

func (w *line) awaitFirst(ctx context.Context) error {
	wake, err := w.s.untilDue()
	if err != nil {
		return err
	}
	timer := time.NewTimer(wake)
	defer timer.Stop()
	select {
	case c := <-w.s.calls:
		w.waiting = append(w.waiting, c)
		return nil
	case <-timer.C:
		w.open = w.s.beginGroup(w.l.term, nil)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// decide takes the commands that are at hand into the open group, while it has room and cannot leave yet.
func (w *line) decide() error {
	for c := w.next(); c != nil; c = w.next() {
		if w.open == nil {
			w.open = w.s.beginGroup(w.l.term, w.flying)
		}
		taken, err := w.open.take(c, w.l, w.flying == nil)
		if err != nil || !taken {
			w.waiting = slices.Insert(w.waiting, 0, c)
			return err
		}
	}
	return nil
}

// next is the next command to be decided; nil if there is none, or the open group may leave now.
func (w *line) next() *call {
	if len(w.waiting) > 0 {
		c := w.waiting[0]
		w.waiting = w.waiting[1:]
		return c
	}
	if w.open != nil && len(w.landed) > 0 {
		return nil
	}
	select {
	case c := <-w.s.calls:
		return c
	default:
		return nil
	}
}

// launch sends the open group on its way, filled up with ends of lifetimes.
func (w *line) launch(ctx context.Context) error {
	g := w.open
	if err := g.sayDue(); err != nil {
		return err
	}
	w.open = nil
	if len(g.commit.Events()) == 0 { // what its answers rest on is durable: nothing is flying
		g.answer()
		return nil
	}
	w.flying = g
	go func() {
		err := g.makeDurable(ctx)
		if err == nil {
			g.answer()
		}
		w.landed <- err
	}()
	return nil
}

// land takes note of how the flying group fared. An error ends the term.
func (w *line) land(ctx context.Context, err error) error {
	f := w.flying
	if w.flying = nil; err == nil {
		return nil
	}
	w.takeBack(f)
	if !errors.Is(err, events.ErrConflict) {
		return err
	}
	// Nothing of it was written, and nobody was answered: decide again on what stands there now.
	return w.s.reread(ctx, w.l)
}

// takeBack has a group's commands, and those of the group behind it, decided again.
func (w *line) takeBack(g *group) {
	calls := g.calls()
	if w.open != nil {
		calls = append(calls, w.open.calls()...)
		w.open = nil
	}
	w.waiting = append(calls, w.waiting...)
}

// breakOff ends the term, and answers whoever waits for it. What is flying may yet turn out to be durable.
func (w *line) breakOff(why error) {
	w.l.end(why)
	if w.flying != nil && <-w.landed != nil {
		refuseAll(w.flying.calls(), errUnknown)
	}
	if w.open != nil {
		refuseAll(w.open.calls(), errUnknown)
	}
	refuseAll(w.waiting, errUnknown)
}

func refuseAll(calls []*call, err error) {
	for _, c := range calls {
		c.done <- result{err: err}
	}
}

func (s *Service) reread(ctx context.Context, l *leading) error {
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	s.noteDurable()
	if newest := s.catalog.Position().Term; newest > l.term {
		return fmt.Errorf("%w: term %d, this was term %d", errDeposed, newest, l.term)
	}
	return nil
}
