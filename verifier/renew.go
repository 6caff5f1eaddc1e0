package verifier

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	randv2 "math/rand/v2"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

const (
	// renewTimeout ends a renewal that gets no answer, so that the next can be tried well within a lease.
	renewTimeout = 4 * time.Second
	// goodbyeTimeout is how long a clean stop waits for the registry to hear of it.
	goodbyeTimeout = 2 * time.Second
)

// renew asks for a lease at every interval, and at once when it is due.
func (v *Verifier) renew(ctx context.Context) {
	v.buryTheLast(ctx)
	for misses := 0; ctx.Err() == nil; {
		err := v.renewOnce(ctx)
		if misses++; err == nil {
			misses = 0
		} else if ctx.Err() == nil {
			v.tell(RenewalFailed{Err: err, InARow: misses})
		}
		if errors.Is(err, ErrReleased) {
			return // nothing that is said any more would be of use
		}
		tenth := v.opts.RenewEvery / 10
		pause := v.opts.RenewEvery - tenth + randv2.N(2*tenth+1) //nolint:gosec // G404: it spreads load, and hides nothing
		select {
		case <-ctx.Done():
		case <-v.due:
		case <-time.After(pause):
		}
		v.change(func(*hold, time.Duration) {}) // a lease may have lapsed meanwhile
	}
}

// renewOnce also in quarantine: the registry should see it, and nothing that it grants opens the gate.
func (v *Verifier) renewOnce(ctx context.Context) error {
	ask, err := v.renewal()
	if err != nil {
		return err
	}
	v.change(func(h *hold, now time.Duration) { h.ask(ask.Nonce, now) }) // before it is sent: the lease counts from here
	attempt, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	signed, err := v.opts.Uplink.Renew(attempt, ask)
	switch {
	case errors.Is(err, ErrReleased):
		v.quarantine(err)
		v.mu.Lock()
		defer v.mu.Unlock()
		return errors.Join(err, v.session.beginAnew()) // the next run is another instance, and asks for leave of its own
	case errors.Is(err, ErrStranger):
		return errors.Join(err, v.beginAnew(ask.Instance))
	case err != nil:
		return err
	}
	g, err := head.Open(signed, v.keys.Load().Keys...)
	if err != nil {
		return fmt.Errorf("%w; if the log's signing key was changed while this verifier was away, start it with the new one as its log key", err)
	}
	v.change(func(h *hold, now time.Duration) {
		if err = h.grant(g, signed, now); err != nil {
			return
		}
		if g.Seq >= v.newest.Seq {
			v.newest, v.proof = g, signed
		}
		v.every = g.AckEvery
		err = v.session.granted(&g, h.using)
		v.noteSilence(h, now)
		if h.gate.applied > v.session.rec.Floor.Seq {
			v.applied(false) // it may be acknowledged by now
		}
	})
	if err == nil && g.Rebuild {
		err = v.rebuild()
	}
	return err
}

// longSilence is how long a log may bring nothing that is known to go on.
const longSilence = 10 * time.Second

var errSilent = errors.New("the registry has signed a head further on, and nothing comes: the log is read again from here")

// noteSilence has a log read again that brings nothing and says no error, though there is more: a server may have lost what it was
// to send.
func (v *Verifier) noteSilence(h *hold, now time.Duration) {
	if !v.reading || h.gate.newest <= h.gate.applied || now-v.heardAt < longSilence {
		return
	}
	v.heardAt = now
	h.stall(errSilent, now)
	v.tell(ApplyStalled{Err: errSilent}) // before what comes of reading again is told
	v.restart()
}

// learnKeys believes what the log says of its signing keys, as far as a head vouches for it that is applied and was signed by a
// key that was believed before. It reports whether that is so of all that the log says by now.
func (v *Verifier) learnKeys() (vouchedFor bool, err error) {
	named, using, was := v.idx.Charter(), v.hold.using, v.keys.Load()
	switch {
	case slices.Equal(named.SigningKeys, was.Keys):
		return true, nil
	case using == nil || named.ChangedAt > using.head.Seq:
		return false, nil
	}
	if !head.IsSigned(using.signed, named.SigningKeys...) {
		return true, nil // whoever signs is not of those that the log names: it has nothing to teach
	}
	is := &trust{Pinned: was.Pinned, Keys: named.SigningKeys}
	v.keys.Store(is) // whether or not it can be kept: a key that was retired is believed no longer
	v.session.rec.Trust = is
	return true, v.session.put()
}

// acknowledged is what the verifier says that it has applied, which is kept first, and the digest of its index there. A change of
// the log's signing keys it says only once it believes them: what is confirmed then is that nobody is cut off by who signs next,
// and that nobody believes what was retired.
func (v *Verifier) acknowledged() (head.Head, events.Digest, error) {
	p, digest := v.idx.Digest()
	vouchedFor, err := v.learnKeys() // no older than p
	if err != nil || !vouchedFor {
		return v.session.rec.Floor, events.Digest{}, err
	}
	return headOf(p), digest, v.session.acked(headOf(p), v.hold.using)
}

// renewal is what this verifier tells of itself now. It acknowledges, and so what it says is kept first.
func (v *Verifier) renewal() (head.Renewal, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	rec, g := &v.session.rec, &v.hold.gate
	applied, digest, err := v.acknowledged()
	if err != nil {
		return head.Renewal{}, err
	}
	r := head.Renewal{
		Ack:    head.Ack{Instance: rec.Instance, Head: applied},
		Ticket: rec.Ticket, Newest: v.proof, State: string(g.state(v.opts.Clock.Elapsed())),
		Schema: events.Schema, Wall: events.InstantOf(v.opts.Clock.Now()),
		IndexDigest: digest, DigestVersion: keyindex.DigestVersion, WantsToRebuild: v.damage != nil,
	}
	_, _ = rand.Read(r.Nonce[:]) // never fails: it ends the process instead
	if !rec.Member {
		r.Join = &head.Join{PoP: v.opts.PoP, Mode: events.ModeDeny, Version: v.opts.Version}
		if v.opts.ServeFor > 0 {
			r.Join.Mode, r.Join.ServeBound = events.ModeServe, uint64(v.opts.ServeFor.Milliseconds())
		}
	}
	return r, nil
}

// beginAnew gives up everything that the instance was granted.
func (v *Verifier) beginAnew(was events.InstanceID) error {
	var err error
	v.change(func(h *hold, _ time.Duration) {
		if err = v.session.beginAnew(); err == nil {
			h.beginAnew(v.session.rec.Instance)
		} else {
			h.gate.held = false
		}
	})
	v.tell(BegunAnew{Was: was})
	return err
}

// sayGoodbye spares the fleet the wait for an instance that is no more; without it the lease's end tells. The instance is forgotten
// first: once the registry has heard, nobody waits for it, and a run that went on as it would answer from before what is
// confirmed by then. Where nobody can have heard, in a site that is cut off, the next run may go on as it after all.
func (v *Verifier) sayGoodbye() {
	was := v.session.rec
	if !was.Member {
		return
	}
	err := v.session.beginAnew()
	if err == nil {
		err = v.goodbye(context.Background(), &was)
	}
	if errors.Is(err, ErrUnsent) {
		err = errors.Join(err, v.session.goOnAs(was))
	}
	if err != nil {
		v.tell(RenewalFailed{Err: err, InARow: 1})
	}
}

// buryTheLast says goodbye for an instance that ended without, when this one is another: and stays it, whatever the next run is.
func (v *Verifier) buryTheLast(ctx context.Context) {
	v.mu.Lock()
	dead := v.last != nil && v.last.Member && v.last.Instance != v.session.rec.Instance && v.session.put() == nil
	v.mu.Unlock()
	if dead {
		_ = v.goodbye(ctx, v.last) // else it lapses
	}
}

func (v *Verifier) goodbye(ctx context.Context, of *record) error {
	ctx, cancel := context.WithTimeout(ctx, goodbyeTimeout)
	defer cancel()
	return v.opts.Uplink.Goodbye(ctx, head.Goodbye{Instance: of.Instance, Ticket: of.Ticket})
}

// applied acknowledges what readers see by now: at once if somebody waits for it, else soon.
func (v *Verifier) applied(prompt bool) {
	if prompt {
		v.ackNow()
		return
	}
	select {
	case v.unsaid <- struct{}{}:
	default:
	}
}

// acknowledge sends what nobody waits for, so often as the registry asks for.
func (v *Verifier) acknowledge(ctx context.Context) {
	for {
		select {
		case <-v.unsaid:
		case <-ctx.Done():
			return
		}
		v.mu.Lock()
		pause := v.ackedAt + v.every - v.opts.Clock.Elapsed()
		v.mu.Unlock()
		select {
		case <-time.After(min(pause, time.Second)):
		case <-ctx.Done():
			return
		}
		v.ackNow()
	}
}

func (v *Verifier) ackNow() {
	v.mu.Lock()
	rec := &v.session.rec
	ack, member := head.Ack{Instance: rec.Instance}, rec.Member
	var err error
	if member {
		ack.Head, _, err = v.acknowledged()
		v.ackedAt = v.opts.Clock.Elapsed()
	}
	v.mu.Unlock()
	switch {
	case err != nil:
		v.tell(RenewalFailed{Err: err, InARow: 1})
	case member:
		v.opts.Uplink.Acknowledge(ack)
	}
}
