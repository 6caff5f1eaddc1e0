package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
	"github.com/keyfleet/keyfleet/verifier"
)

var checks = scenario{"checks", "Good keys, shown to a verifier in every way there is: how many checks it answers, and how long they take at a given rate.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		s, err := b.shared(ctx)
		if err != nil {
			return err
		}
		inProcess, stop, err := s.embedVerifier(ctx)
		if err != nil {
			return err
		}
		err = b.measureWay(ctx, result, way{name: "in process", open: inProcess}, s.keys)
		stop()
		if err != nil {
			return err
		}
		edge := []*process{s.edge.process}
		for _, w := range []way{
			{"Unix socket", overSocket(s.edge.socket), edge},
			{"HTTP", overHTTP(s.edge.addresses["check"], checkPath), edge},
			{"ext_authz", overExtAuthz(s.edge.addresses["ext_authz"]), edge},
			{"gateway", overHTTP(s.gateway.addresses["gateway"], "/"+deployment+"/"), []*process{s.gateway}},
		} {
			if err := b.measureWay(ctx, result, w, s.keys); err != nil {
				return err
			}
		}
		return nil
	}}

// way is one in which checks are asked for.
type way struct {
	name    string
	open    opener
	servers []*process // that have work with it; none if that is done in this one
}

// measureWay first has every caller ask as fast as it is answered, and then at the rate that was chosen. Before that it does so for a
// moment that does not count, in which connections, caches and the collector's pace settle.
func (b *bench) measureWay(ctx context.Context, result *report.Scenario, w way, keys []string) error {
	open := func(ctx context.Context, worker int) (openloop.Operation, error) {
		how, err := w.open(ctx)
		return asking(how, b.picker(keys, worker), statusAllowed), err
	}
	if _, err := (openloop.Load{For: b.length / 8, Workers: b.workers}).Run(ctx, open); err != nil {
		return err
	}
	before, err := cpuTimes(w.servers)
	if err != nil {
		return err
	}
	full, err := b.load(ctx, w.name+", as fast as it goes", openloop.Load{For: b.length, Workers: b.workers}, open)
	if err != nil {
		return err
	}
	after, err := cpuTimes(w.servers)
	if err != nil {
		return err
	}
	if full.Failed > 0 {
		return fmt.Errorf("%s: %d of %d checks failed: %v", w.name, full.Failed, full.Done+full.Failed, full.Failures)
	}
	result.Figures = append(result.Figures, report.Figure{Name: w.name, Value: full.PerSecond, Unit: checksPerSecond})
	if len(w.servers) > 0 {
		micros := float64((after - before).Microseconds()) / float64(full.Done)
		result.Figures = append(result.Figures, report.Figure{Name: w.name, Value: report.Significant(micros), Unit: microsOfCores})
	}
	paced, err := b.load(ctx, fmt.Sprintf("%s, %.0f a second", w.name, b.rate), openloop.Load{Rate: b.rate, For: b.length, Workers: b.workers}, open)
	paced.Name = w.name
	result.Series = append(result.Series, paced)
	return err
}

// The units of how many checks a way answers, and of what one costs all servers that have work with it.
const (
	checksPerSecond = "checks/s"
	microsOfCores   = "µs of the servers' cores a check"
)

// embedVerifier asks a verifier in this process, as a program does that checks keys itself.
func (s *stand) embedVerifier(ctx context.Context) (open opener, stop func(), err error) {
	v, stop, err := runVerifier(ctx, s.nc, filepath.Join(s.dir, "embedded"), "embedded", s.logKey)
	if err != nil {
		return nil, nil, err
	}
	how := func(ctx context.Context, key string) (int, error) {
		return statusOf(v.Check(ctx, verifier.Request{Project: project, Deployment: deployment, Key: []byte(key)}).Reason.Class()), nil
	}
	return func(context.Context) (ask, error) { return how, nil }, stop, nil
}
