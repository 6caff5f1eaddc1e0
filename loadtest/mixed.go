package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
)

var mixedDay = scenario{"mixed-day", "All at once: good keys at a verifier and at the gateway, a scanner that is in no hurry, keys that come and go, and some that expire together halfway through.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		s, err := b.shared(ctx)
		if err != nil {
			return err
		}
		due, err := s.createDue(ctx, "mixed", min(b.keys/50, 2000))
		if err != nil {
			return err
		}
		recorded, err := s.watchExpiry(ctx, due)
		if err != nil {
			return err
		}
		atEdge, atGateway := overHTTP(s.edge.addresses["check"], checkPath), overHTTP(s.gateway.addresses["gateway"], "/"+deployment+"/")
		came := naming{prefix: "mixed"}
		parts := []struct {
			name string
			rate float64
			open openloop.Opening
		}{
			{"checks over HTTP", b.rate / 2, b.showing(atEdge, s.keys, statusAllowed)},
			{"requests through the gateway", b.rate / 4, b.showing(atGateway, s.keys, statusAllowed)},
			{"scanner", b.rate / 10, b.showing(atEdge, strangers(1000), statusRefused)},
			{"keys that come and go", comingPerSecond, func(ctx context.Context, _ int) (openloop.Operation, error) {
				how, err := atEdge(ctx)
				return func(ctx context.Context, _ int64) error { return s.comeAndGo(ctx, how, came.name()) }, err
			}},
		}
		length := max(3*b.length, 2*time.Until(due.at).Round(time.Second))
		done := b.progress("mixed day", length)
		defer done()
		series := make([]report.Series, len(parts))
		all, loading := errgroup.WithContext(ctx)
		for i, part := range parts {
			all.Go(func() (err error) {
				series[i], err = quietLoad(loading, openloop.Load{Rate: part.rate, For: length, Workers: b.workers / 2}, part.open)
				series[i].Name = part.name
				return err
			})
		}
		if err := all.Wait(); err != nil {
			return err
		}
		result.Series = append(result.Series, series...)
		return due.report(ctx, recorded, result)
	}}
