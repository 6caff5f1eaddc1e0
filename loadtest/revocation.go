package main

import (
	"context"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/socket"
)

const deletesPerSecond = 20

var revocation = scenario{"revocation", "Keys deleted over NATS while a fleet of verifiers stands by, a process each: how long until the deletion is confirmed, and until each of them refuses the key.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		result.CDF = true
		deletes := int(deletesPerSecond * 3 * b.length.Seconds())
		s, err := newStand(ctx, b, deletes+1, (*stand).keepAll) // the last one is for readiness
		if err != nil {
			return err
		}
		defer s.stop()
		r := &revoking{stand: s}
		for i := range b.verifiers {
			edge, err := s.startVerifier(ctx, fmt.Sprintf("edge-%03d", i))
			if err != nil {
				return err
			}
			c, err := socket.Dial(edge.socket) // it ends with the verifier
			if err != nil {
				return err
			}
			r.verifiers = append(r.verifiers, c)
		}
		load := openloop.Load{Rate: deletesPerSecond, For: 3 * b.length, Workers: 1}
		confirmed, err := b.load(ctx, fmt.Sprintf("deletes, confirmed by %d verifiers", b.verifiers), load,
			func(context.Context, int) (openloop.Operation, error) { return r.revoke, nil })
		if err != nil {
			return err
		}
		if confirmed.Failed > 0 {
			return fmt.Errorf("%d deletes failed: %v", confirmed.Failed, confirmed.Failures)
		}
		confirmed.Name = "confirmed"
		result.Series = append(result.Series, confirmed, report.OfWaits("refused by a verifier", r.each), report.OfWaits("refused by all", r.all))
		result.Figures = append(result.Figures, report.Figure{Name: "verifiers", Value: float64(b.verifiers)})
		return nil
	}}

// revoking deletes one key after the other.
type revoking struct {
	*stand
	verifiers []*socket.Client
	newest    events.Seq      // that a deletion has brought
	each, all []time.Duration // until the key was refused
}

// revoke deletes the i-th key. Verifiers are not asked again and again, which would keep the machine busy: each is asked once, before the
// deletion is sent, for an answer that is at least as new as the deletion will be.
func (r *revoking) revoke(ctx context.Context, i int64) error {
	if r.newest == 0 {
		var reply registry.KeyReply
		if err := r.client().Do(ctx, registry.KeyGet, registry.Request{Key: r.ids[i].String()}, &reply); err != nil {
			return err
		}
		r.newest = reply.Seq
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	type refusal struct {
		took time.Duration
		err  error
	}
	refusals := make(chan refusal, len(r.verifiers))
	sent := time.Now()
	for _, v := range r.verifiers {
		go func() {
			err := r.awaitRefusal(ctx, v, r.keys[i])
			refusals <- refusal{time.Since(sent), err}
		}()
	}
	var reply registry.KeyReply
	err := r.client().Do(ctx, registry.KeyDelete, registry.Request{Key: r.ids[i].String(), Wait: registry.WaitConfirmed}, &reply)
	last := time.Duration(0)
	for range r.verifiers {
		refused := <-refusals
		if err == nil {
			err = refused.err
		}
		last = max(last, refused.took)
		r.each = append(r.each, refused.took)
	}
	if err != nil {
		return err
	}
	r.all = append(r.all, last)
	r.newest = max(r.newest, reply.Seq)
	if reply.Confirmation == nil || reply.Confirmation.State != "confirmed" {
		return fmt.Errorf("the deletion of key %d is not confirmed", i)
	}
	return nil
}

// awaitRefusal asks for an answer of the next state, until that is a refusal.
func (r *revoking) awaitRefusal(ctx context.Context, v *socket.Client, key string) error {
	for next := r.newest + 1; ; {
		a, err := v.Check(ctx, verifier.Request{Project: project, Deployment: deployment, Key: []byte(key), MinSeq: next})
		if err != nil {
			return err
		}
		if statusOf(a.Outcome) == statusRefused {
			return nil
		}
		if a.Allowed() {
			next = a.Seq + 1 // something else has happened
		}
	}
}
