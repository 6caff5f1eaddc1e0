package verifier

import (
	"context"
	randv2 "math/rand/v2"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/usage"
)

// Reports takes what was counted of keys' uses. Package uplink sends it over NATS.
type Reports interface {
	// Report returns nil once the batch is stored. After any error it is called again with the very same batch, which counts once.
	Report(context.Context, usage.Batch) error
}

// lastReportTimeout is how long a clean stop tries to get rid of what was counted.
const lastReportTimeout = 2 * time.Second

// report hands on what checks have counted, until ctx ends, and then the rest. What is counted waits for two rounds at most.
func (v *Verifier) report(ctx context.Context) {
	for failed := 0; ctx.Err() == nil; {
		tenth := v.opts.ReportEvery / 10
		select {
		case <-ctx.Done():
			return
		case <-time.After(v.opts.ReportEvery - randv2.N(tenth+1)): //nolint:gosec // G404: it spreads load, and hides nothing
		}
		v.gather()
		err := v.handOn(ctx)
		if failed++; err == nil {
			failed = 0
		} else if ctx.Err() == nil {
			v.tell(ReportFailed{Err: err, InARow: failed})
		}
	}
}

// reportTheRest is for when no check passes any more.
func (v *Verifier) reportTheRest() {
	v.gather()
	v.gather() // what was counted since the first
	ctx, cancel := context.WithTimeout(context.Background(), lastReportTimeout)
	defer cancel()
	if err := v.handOn(ctx); err != nil {
		v.tell(ReportFailed{Err: err, InARow: 1})
	}
}

func (v *Verifier) gather() {
	v.uses.take(func(key events.KeyID, count uint64, last events.Instant) {
		if !v.backlog.add(key, count, last) {
			v.uses.missed.Add(count)
		}
	})
}

func (v *Verifier) handOn(ctx context.Context) error {
	for {
		batch := v.backlog.next(v.idx.Position())
		if batch == nil {
			return nil
		}
		if err := v.opts.Reports.Report(ctx, *batch); err != nil {
			return err
		}
		v.backlog.stored()
	}
}
