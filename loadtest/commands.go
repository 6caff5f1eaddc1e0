package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
	"github.com/keyfleet/keyfleet/registry"
)

// strangers are keys of the right form that nobody has issued.
func strangers(n int) (texts []string) {
	for range n {
		texts = append(texts, apikey.Generate().Reveal())
	}
	return texts
}

// naming has every name once.
type naming struct {
	prefix string
	next   atomic.Int64
}

func (n *naming) name() string { return fmt.Sprintf("%s-%07d", n.prefix, n.next.Add(1)) }

const commandCallers = 256

var commands = scenario{"commands", "Keys created over NATS, each on disk before it is acknowledged, by 256 callers; bare requests to a NATS responder that does nothing beside them.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		s, err := b.shared(ctx)
		if err != nil {
			return err
		}
		echo, err := echoing(s.url)
		if err != nil {
			return err
		}
		defer echo.Close()
		bare := func(ctx context.Context, _ int) (openloop.Operation, error) {
			nc, err := dialNATS(ctx, s.url)
			return func(ctx context.Context, _ int64) error {
				_, err := nc.RequestWithContext(ctx, echoSubject, []byte(`{"name":"command-0000001"}`))
				return err
			}, err
		}
		for _, kind := range []struct {
			name string
			open openloop.Opening
		}{{"bare requests", bare}, {"creates", s.creating("command")}} {
			full, err := b.load(ctx, kind.name+", as fast as it goes", openloop.Load{For: b.length, Workers: commandCallers}, kind.open)
			if err != nil {
				return err
			}
			result.Figures = append(result.Figures, report.Figure{Name: kind.name, Value: full.PerSecond, Unit: "a second"})
			paced, err := b.load(ctx, fmt.Sprintf("%s, %.0f a second", kind.name, b.rate/2),
				openloop.Load{Rate: b.rate / 2, For: b.length, Workers: commandCallers}, kind.open)
			if err != nil {
				return err
			}
			paced.Name = kind.name
			result.Series = append(result.Series, paced)
		}
		return nil
	}}

// creating has callers make one key after the other, over connections of their own.
func (s *stand) creating(prefix string) openloop.Opening {
	names := &naming{prefix: prefix}
	return func(ctx context.Context, _ int) (openloop.Operation, error) {
		nc, err := dialNATS(ctx, s.url)
		return func(ctx context.Context, _ int64) error {
			secret := apikey.Generate()
			return s.clientOver(nc).Do(ctx, registry.KeyCreate, registry.Request{
				Name: names.name(), Deployments: &[]string{deployment}, Digest: secret.Digest().String(), Hint: secret.Hint(),
			}, nil)
		}, err
	}
}

func dialNATS(ctx context.Context, url string) (*nats.Conn, error) {
	nc, err := nats.Connect(url)
	if err == nil {
		context.AfterFunc(ctx, nc.Close)
	}
	return nc, err
}

const echoSubject = "loadtest.echo"

// echoing answers requests with what they say.
func echoing(url string) (*nats.Conn, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	_, err = nc.Subscribe(echoSubject, func(m *nats.Msg) { _ = m.Respond(m.Data) })
	return nc, err
}
