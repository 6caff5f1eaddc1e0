package openloop

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histograms hold nanoseconds in steps of 64, up to two minutes: what takes longer counts as that.
const (
	shortest = 64
	longest  = int64(2 * time.Minute)
)

// Outcome is what became of a load.
type Outcome struct {
	Latency  *hdrhistogram.Histogram // nanoseconds from the instant at which an operation fell due, of those that failed, too
	Service  *hdrhistogram.Histogram // nanoseconds from its sending
	Done     int64                   // failed ones left out
	Failed   int64
	Failures []string // the first few, each once
	Took     time.Duration
	Seconds  []Second // one after the other
}

// Second is one of a load: what was done in it, and how long that took since it had fallen due.
type Second struct {
	Done, Failed  int64
	P50, P99, Max time.Duration
}

// tally counts samples. It belongs to one goroutine.
type tally struct {
	latency, service *hdrhistogram.Histogram
	seconds          []*tallied
	failures         failures
}

type tallied struct {
	latency *hdrhistogram.Histogram
	failed  int64
}

func newTally(l Load) *tally {
	return &tally{
		latency: hdrhistogram.New(shortest, longest, 3),
		service: hdrhistogram.New(shortest, longest, 3),
		seconds: make([]*tallied, 0, int(l.For.Seconds())+1),
	}
}

// second gives the i-th, and makes it, and those before it, where they are missing.
func (t *tally) second(i int) *tallied {
	for len(t.seconds) <= i {
		t.seconds = append(t.seconds, &tallied{latency: hdrhistogram.New(shortest, longest, 2)})
	}
	return t.seconds[i]
}

func (t *tally) record(s sample) {
	second := t.second(int(s.at / time.Second))
	count(t.latency, s.latency)
	count(second.latency, s.latency)
	if s.service > 0 {
		count(t.service, s.service)
	}
	if s.err != nil {
		second.failed++
		t.failures.add(s.err.Error())
	}
}

// count fails only for values out of bounds, which there are none.
func count(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), shortest), longest))
}

func (t *tally) add(other *tally) {
	t.latency.Merge(other.latency)
	t.service.Merge(other.service)
	for i, s := range other.seconds {
		mine := t.second(i)
		mine.latency.Merge(s.latency)
		mine.failed += s.failed
	}
	t.failures.add(other.failures...)
}

func (t *tally) outcome(took time.Duration) *Outcome {
	o := &Outcome{Latency: t.latency, Service: t.service, Failures: t.failures, Took: took}
	for _, s := range t.seconds {
		done := s.latency.TotalCount() - s.failed
		o.Done += done
		o.Failed += s.failed
		o.Seconds = append(o.Seconds, Second{
			Done: done, Failed: s.failed,
			P50: time.Duration(s.latency.ValueAtQuantile(50)), P99: time.Duration(s.latency.ValueAtQuantile(99)),
			Max: time.Duration(s.latency.Max()),
		})
	}
	return o
}
