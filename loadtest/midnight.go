package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
	"github.com/keyfleet/keyfleet/registry"
)

var midnight = scenario{"midnight", "Many keys expire at one instant, while they are checked and others are created. A check fails if it was answered before that instant and refused, or sent after it and allowed.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		s, err := b.shared(ctx)
		if err != nil {
			return err
		}
		due, err := s.createDue(ctx, "midnight", min(b.keys/5, 20_000))
		if err != nil {
			return err
		}
		length := (time.Until(due.at) + 2*b.length).Round(time.Second)
		recorded, err := s.watchExpiry(ctx, due)
		if err != nil {
			return err
		}
		parts, loading := errgroup.WithContext(ctx)
		var checked, created report.Series
		parts.Go(func() (err error) {
			checked, err = b.load(loading, "checks around midnight", openloop.Load{Rate: b.rate, For: length, Workers: b.workers}, b.showingDue(s, due))
			return err
		})
		parts.Go(func() (err error) {
			created, err = quietLoad(loading, openloop.Load{Rate: comingPerSecond, For: length, Workers: b.workers}, s.creating("newborn"))
			return err
		})
		if err := parts.Wait(); err != nil {
			return err
		}
		checked.Name, created.Name = "checks of the keys that expire", "creates"
		result.Series = append(result.Series, checked, created)
		return due.report(ctx, recorded, result)
	}}

const comingPerSecond = 20

// dueKeys expire together.
type dueKeys struct {
	at   time.Time
	keys []string
}

// createDue makes keys that expire soon, and returns at least a second before. It tries again if that took too long.
func (s *stand) createDue(ctx context.Context, name string, n int) (*dueKeys, error) {
	for lead := 3*time.Second + time.Duration(n)*time.Second/4000; ; lead *= 2 {
		due := &dueKeys{at: time.Now().Add(lead).Truncate(time.Second), keys: strangers(n)}
		expires := due.at.UTC().Format(time.RFC3339)
		callers, ctx := errgroup.WithContext(ctx)
		callers.SetLimit(commandCallers)
		for i, key := range due.keys {
			callers.Go(func() error {
				secret, err := apikey.Parse(key)
				if err != nil {
					return err
				}
				return s.client().Do(ctx, registry.KeyCreate, registry.Request{
					Name: fmt.Sprintf("%s-%s-%06d", name, due.at.Format("150405"), i), Deployments: &[]string{deployment}, ExpiresAt: &expires,
					Digest: secret.Digest().String(), Hint: secret.Hint(),
				}, nil)
			})
		}
		if err := callers.Wait(); err != nil {
			return nil, err
		}
		if time.Until(due.at) > time.Second {
			return due, nil
		}
		if lead > time.Minute {
			return nil, fmt.Errorf("%d keys cannot be created within %s", n, lead)
		}
	}
}

// showingDue has callers show the keys, and know what time it is.
func (b *bench) showingDue(s *stand, due *dueKeys) openloop.Opening {
	return func(ctx context.Context, worker int) (openloop.Operation, error) {
		how, err := overHTTP(s.edge.addresses["check"], checkPath)(ctx)
		which := b.picker(due.keys, worker)
		return func(ctx context.Context, _ int64) error {
			sent := time.Now()
			status, err := how(ctx, which())
			switch answered := time.Now(); {
			case err != nil:
				return err
			case status == statusAllowed && !sent.Before(due.at):
				return fmt.Errorf("allowed when it was sent after midnight")
			case status == statusRefused && answered.Before(due.at):
				return fmt.Errorf("refused before midnight")
			case status != statusAllowed && status != statusRefused:
				return fmt.Errorf("answered %d", status)
			}
			return nil
		}, err
	}
}

// expiry is when the log had all of it.
type expiry struct {
	at  time.Time
	err error
}

// watchExpiry follows the log from here on, until as many keys as are due have expired in it.
func (s *stand) watchExpiry(ctx context.Context, due *dueKeys) (<-chan expiry, error) {
	log, err := eventlog.Open(ctx, s.nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	newest, err := log.Last(ctx)
	if err != nil {
		return nil, err
	}
	seen := make(chan expiry, 1)
	go func() {
		at, err := followExpiry(ctx, log, behind(newest), len(due.keys))
		seen <- expiry{at, err}
	}()
	return seen, nil
}

func followExpiry(ctx context.Context, log *eventlog.Log, from events.Position, keys int) (at time.Time, err error) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	expired := 0
	err = log.Follow(ctx, from, func(entries []events.Entry) error {
		for _, entry := range entries {
			for _, e := range entry.Commit.Events() {
				if _, is := e.Fact.(*events.Expired); is {
					expired++
				}
			}
		}
		if expired >= keys && at.IsZero() {
			at = time.Now()
			enough()
		}
		return nil
	})
	if !at.IsZero() {
		err = nil
	}
	return at, err
}

// report says how long the log took to have it all.
func (due *dueKeys) report(ctx context.Context, recorded <-chan expiry, result *report.Scenario) error {
	select {
	case all := <-recorded:
		result.Figures = append(result.Figures, report.Figure{Name: "keys that expire", Value: float64(len(due.keys))})
		if all.err == nil {
			result.Figures = append(result.Figures, report.Figure{
				Name: "until all of that is in the log", Value: report.Significant(all.at.Sub(due.at).Seconds()), Unit: "s",
			})
		}
		return all.err
	case <-time.After(startTimeout):
		return fmt.Errorf("not all keys have expired in the log within %s", startTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}
