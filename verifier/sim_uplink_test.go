package verifier_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier"
)

// vouched is the newest time that a process was told, and took for true.
type vouched struct {
	mu             sync.Mutex
	newest, before moment // before the renewal that is under way, or was last
}

// moment is a time that was told, and when.
type moment struct {
	of events.Instant
	at time.Time
}

// distantHubs are the registries as a verifier reaches them.
type distantHubs struct {
	w    *world
	name string
	line *line
	told *vouched
}

var errLine = errors.New("the line is cut")

func (d *distantHubs) Renew(ctx context.Context, r head.Renewal) (signed []byte, err error) {
	d.told.ask()
	err = errLine
	if !d.line.passes(ctx) {
		return nil, err
	}
	d.w.eachService(func(svc *registry.Service) bool {
		signed, err = svc.Renew(ctx, d.name, r)
		return !unavailable(err)
	})
	switch {
	case !d.line.answers(ctx):
		return nil, errLine
	case err != nil:
		return nil, inWordsOf(err)
	}
	d.told.hear(signed)
	return signed, nil
}

// inWordsOf is what package uplink makes of a refusal.
func inWordsOf(err error) error {
	switch registry.AsRefusal(err).Code {
	case registry.Stranger:
		return errors.Join(verifier.ErrStranger, err)
	case registry.Released:
		return errors.Join(verifier.ErrReleased, err)
	default:
		return err
	}
}

func (v *vouched) ask() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.before = v.newest
}

func (v *vouched) hear(signed []byte) {
	g, err := head.Peek(signed) // of a registry of ours
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil && g.Attested > v.newest.of {
		v.newest = moment{g.Attested, time.Now()}
	}
}

// notice forgets what came with a grant that was refused, such as one of an older term.
func (v *vouched) notice(e verifier.Event) {
	if _, refused := e.(verifier.RenewalFailed); refused {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.newest = v.before
	}
}

// least is a time that has come for sure.
func (v *vouched) least() events.Instant {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.newest.of == 0 {
		return 0
	}
	return v.newest.of + events.Instant(time.Since(v.newest.at).Milliseconds()/100*99)
}

func (d *distantHubs) Acknowledge(a head.Ack) {
	if d.line.quick() {
		d.w.eachService(func(svc *registry.Service) bool {
			svc.Acknowledge(d.name, a)
			return false
		})
	}
}

func (d *distantHubs) Goodbye(ctx context.Context, g head.Goodbye) (err error) {
	err = verifier.ErrUnsent
	if d.line.passes(ctx) {
		d.w.eachService(func(svc *registry.Service) bool {
			err = svc.Goodbye(ctx, d.name, g)
			return !unavailable(err)
		})
	}
	return err
}
