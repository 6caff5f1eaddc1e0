package main

import (
	"context"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
	"github.com/keyfleet/keyfleet/registry"
)

// mayGrow is what a heap may be larger by at the end of a soak: what a profile of it would not tell from noise.
const mayGrow = 16 << 20

const churnPerSecond = 200

var soak = scenario{"soak", "Keys come and go, each checked while it lives: no server's heap may grow by more than 16 MiB from the first tenth of the time to its end. What Pebble keeps for its caches, which fill up to a bound, is left out.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		s, err := newStand(ctx, b, 1000, (*stand).keepAll)
		if err != nil {
			return err
		}
		defer s.stop()
		edge, err := s.startVerifier(ctx, "edge")
		if err != nil {
			return err
		}
		servers := []watched{{"verifier", edge.process, 0}, {"registry", s.registry, 0}}
		came := naming{prefix: "soak"}
		churn := func(ctx context.Context, _ int) (openloop.Operation, error) {
			how, err := overHTTP(edge.addresses["check"], checkPath)(ctx)
			return func(ctx context.Context, _ int64) error { return s.comeAndGo(ctx, how, came.name()) }, err
		}
		if _, err := b.load(ctx, "soak, to begin with", openloop.Load{Rate: churnPerSecond, For: b.soak / 10, Workers: b.workers}, churn); err != nil {
			return err
		}
		for i := range servers {
			if servers[i].before, err = servers[i].heap(ctx); err != nil {
				return err
			}
		}
		churned, err := b.load(ctx, "soak", openloop.Load{Rate: churnPerSecond, For: b.soak, Workers: b.workers}, churn)
		if err != nil {
			return err
		}
		if churned.Failed > 0 {
			return fmt.Errorf("%d keys did not come and go: %v", churned.Failed, churned.Failures)
		}
		churned.Name = "created, checked and deleted"
		result.Series = append(result.Series, churned)
		for _, w := range servers {
			if err := w.settle(ctx, result); err != nil {
				return err
			}
		}
		return nil
	}}

// comeAndGo creates a key, has it checked, and deletes it.
func (s *stand) comeAndGo(ctx context.Context, how ask, name string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	secret := apikey.Generate()
	err := s.client().Do(ctx, registry.KeyCreate, registry.Request{
		Name: name, Deployments: &[]string{deployment}, Digest: secret.Digest().String(), Hint: secret.Hint(), Wait: registry.WaitConfirmed,
	}, nil)
	if err != nil {
		return err
	}
	status, err := how(ctx, secret.Reveal())
	if err == nil && status != statusAllowed {
		err = fmt.Errorf("a new key is answered %d", status)
	}
	if err != nil {
		return err
	}
	return s.client().Do(ctx, registry.KeyDelete, registry.Request{Key: name}, nil)
}

// watched is a server whose heap may not grow.
type watched struct {
	name string
	*process
	before int64 // bytes
}

// settle sets the heap beside what it was. One that has grown gets a few chances: what was under way may still have been in it.
func (w watched) settle(ctx context.Context, result *report.Scenario) error {
	after, err := w.heap(ctx)
	for try := 0; err == nil && after > w.before+mayGrow && try < 5; try++ {
		time.Sleep(time.Second)
		after, err = w.heap(ctx)
	}
	if err != nil {
		return err
	}
	result.Figures = append(result.Figures,
		report.Figure{Name: w.name + "'s heap, before", Value: mebibytes(w.before), Unit: "MiB"},
		report.Figure{Name: w.name + "'s heap, after", Value: mebibytes(after), Unit: "MiB"})
	if after > w.before+mayGrow {
		return fmt.Errorf("the heap of the %s has grown from %d to %d bytes", w.name, w.before, after)
	}
	return nil
}
