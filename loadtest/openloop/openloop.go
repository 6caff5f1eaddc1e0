// Package openloop sends load that does not wait for the server: each operation falls due at an instant of its own,
// whether or not those before it are done, and its latency counts from that instant.
//
// It promises that a server that stalls is seen as all of its callers would see it. A loop that sends the next request
// once it has the last answer leaves out the requests that it would have sent meanwhile (coordinated omission), and so
// shows a stall of a second as one slow request among thousands. It leaves to its callers what an operation
// is, and what the answer should be.
package openloop

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Load says how many operations begin when. Both Rate and For bound it.
type Load struct {
	Rate     float64       // operations that fall due in a second, evenly spaced; 0: each worker's next as soon as its last is done
	For      time.Duration // how long operations fall due
	Workers  int           // operations under way at once, at most; default 64
	Patience time.Duration // past For, to finish what is late; what has not begun by then has failed. Default 10 s

	sleep func() (func(time.Duration), error) // makes a worker's; default: newSleep
}

// Operation is the i-th of the load. It is called by one worker; an error counts as a failure.
type Operation func(ctx context.Context, i int64) error

// errNeverBegun is the failure of operations that fell due and that no worker came to within Patience.
var errNeverBegun = errors.New("fell due and was never begun: all workers were busy")

// Opening makes the operation of one worker, with a connection of its own if it likes. The context ends with the load.
type Opening func(ctx context.Context, worker int) (Operation, error)

// Run carries out the load. The clock starts once every worker has opened its operation; an error is one of that.
// ctx's end cuts the load short.
func (l Load) Run(ctx context.Context, open Opening) (*Outcome, error) {
	l = l.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{Load: l, due: int64(l.Rate * l.For.Seconds())}
	workers := make([]*worker, l.Workers)
	for i := range workers {
		operation, err := open(ctx, i)
		if err != nil {
			return nil, err
		}
		sleep, err := l.sleep()
		if err != nil {
			return nil, err
		}
		workers[i] = &worker{run: r, operation: operation, sleep: sleep, tally: newTally(l)}
	}
	r.begun = time.Now()
	r.end = r.begun.Add(l.For)
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() { w.work(ctx) })
	}
	all.Wait()
	total := newTally(l)
	for _, w := range workers {
		total.add(w.tally)
	}
	return total.outcome(min(time.Since(r.begun), l.For+l.Patience)), nil
}

func (l Load) withDefaults() Load {
	if l.Workers == 0 {
		l.Workers = 64
	}
	if l.Patience == 0 {
		l.Patience = 10 * time.Second
	}
	if l.sleep == nil {
		l.sleep = newSleep
	}
	return l
}

// run is a load under way.
type run struct {
	Load
	due        int64 // how many fall due in all
	begun, end time.Time
	next       atomic.Int64
}

type worker struct {
	*run
	operation Operation
	sleep     func(time.Duration)
	tally     *tally
}

func (w *worker) work(ctx context.Context) {
	for ctx.Err() == nil {
		i := w.next.Add(1) - 1
		due, more := w.dueAt(i)
		if !more {
			return
		}
		if wait := time.Until(due); wait > 0 {
			w.sleep(wait)
		}
		w.tally.record(w.carryOut(ctx, i, due))
	}
}

// dueAt says when the i-th operation falls due, if there is more.
func (r *run) dueAt(i int64) (due time.Time, more bool) {
	if r.Rate == 0 {
		now := time.Now()
		return now, now.Before(r.end)
	}
	return r.begun.Add(time.Duration(float64(i) / r.Rate * float64(time.Second))), i < r.due
}

func (w *worker) carryOut(ctx context.Context, i int64, due time.Time) sample {
	sent := time.Now()
	if sent.After(w.end.Add(w.Patience)) {
		return sample{at: sent.Sub(w.begun), latency: sent.Sub(due), err: errNeverBegun}
	}
	err := w.operation(ctx, i)
	done := time.Now()
	return sample{at: done.Sub(w.begun), latency: done.Sub(due), service: done.Sub(sent), err: err}
}

// sample is what became of one operation.
type sample struct {
	at      time.Duration // since the load began, when it was done
	latency time.Duration // since it fell due
	service time.Duration // since it was sent
	err     error
}

// failures keeps the first few of many errors, each text once.
type failures []string

func (f *failures) add(texts ...string) {
	for _, text := range texts {
		if len(*f) < 5 && !slices.Contains(*f, text) {
			*f = append(*f, text)
		}
	}
}
