package main

import (
	"context"
	"time"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
)

var scanner = scenario{"scanner", "Good keys at a steady rate, without and with somebody who tries others as fast as answers come.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		s, err := b.shared(ctx)
		if err != nil {
			return err
		}
		for _, at := range []struct {
			name string
			open opener
		}{
			{"HTTP", overHTTP(s.edge.addresses["check"], checkPath)},
			{"gateway", overHTTP(s.gateway.addresses["gateway"], "/"+deployment+"/")},
		} {
			good := openloop.Load{Rate: b.rate / 4, For: b.length, Workers: b.workers}
			quiet, err := b.load(ctx, at.name+", quiet", good, b.showing(at.open, s.keys, statusAllowed))
			if err != nil {
				return err
			}
			result.Series = append(result.Series, quiet)
			if err := b.scanned(ctx, result, at.name, good, at.open, s.keys); err != nil {
				return err
			}
		}
		return nil
	}}

// scanned measures good requests while a scanner is at work.
func (b *bench) scanned(ctx context.Context, result *report.Scenario, name string, good openloop.Load, open opener, keys []string) error {
	type scan struct {
		outcome *openloop.Outcome
		err     error
	}
	scanned := make(chan scan, 1)
	go func() {
		l := openloop.Load{For: good.For + time.Second/2, Workers: b.workers}
		o, err := l.Run(ctx, b.showing(open, strangers(1000), statusRefused, statusHeldOff))
		scanned <- scan{o, err}
	}()
	beside, err := b.load(ctx, name+", scanned", good, b.showing(open, keys, statusAllowed))
	tried := <-scanned
	if err != nil {
		return err
	}
	if tried.err != nil {
		return tried.err
	}
	result.Series = append(result.Series, beside)
	result.Figures = append(result.Figures, report.Figure{
		Name: name, Value: report.Significant(float64(tried.outcome.Done) / tried.outcome.Took.Seconds()), Unit: "keys/s tried by the scanner",
	})
	return nil
}
