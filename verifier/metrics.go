package verifier

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/projections"
)

// tally counts what metrics show. Checks only add to it.
type tally struct {
	checks     [32]atomic.Uint64 // by reason
	applied    atomic.Uint64     // events
	waiting    atomic.Int64      // checks, for their MinSeq
	stalls     atomic.Uint64
	lapses     atomic.Uint64
	renewFails atomic.Uint64
	rebuilds   atomic.Uint64
	noSnapshot atomic.Uint64
	complained atomic.Int64 // when a broken check was last told of
}

// mayComplain spares the log a line for every check that a failing disk breaks.
func (t *tally) mayComplain(now time.Duration) bool {
	last := t.complained.Load()
	return (last == 0 || now-time.Duration(last) >= time.Second) && t.complained.CompareAndSwap(last, int64(now)+1)
}

// hear is a listener.
func (t *tally) hear(e Event) {
	switch e.(type) {
	case ApplyStalled:
		t.stalls.Add(1)
	case LeaseLapsed:
		t.lapses.Add(1)
	case RenewalFailed:
		t.renewFails.Add(1)
	case IndexRebuilding:
		t.rebuilds.Add(1)
	case SnapshotFailed:
		t.noSnapshot.Add(1)
	}
}

// metrics shows Prometheus how a verifier fares, whenever it asks.
type metrics struct {
	v       *Verifier
	checks  *prometheus.Desc
	state   *prometheus.Desc
	figures []figure
}

type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Verifier, *Status) float64
}

func newMetrics(v *Verifier) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyfleet_verifier_"+name, help, labels, nil)
	}
	gauge := func(name, help string, value func(*Verifier, *Status) float64) figure {
		return figure{desc(name, help), prometheus.GaugeValue, value}
	}
	counter := func(name, help string, value func(*Verifier) uint64) figure {
		return figure{desc(name, help), prometheus.CounterValue, func(v *Verifier, _ *Status) float64 { return float64(value(v)) }}
	}
	return &metrics{
		v:      v,
		checks: desc("checks_total", "Checks answered, by reason.", "reason"),
		state:  desc("state", "1 for the state that the verifier is in, else 0.", "state"),
		figures: []figure{
			gauge("ready", "1 while checks are answered, else 0.", func(_ *Verifier, s *Status) float64 { return number(s.Ready) }),
			gauge("applied_seq", "Seq of the last event applied.", func(_ *Verifier, s *Status) float64 { return float64(s.Position.Seq) }),
			gauge("lag_events", "Events between the last one applied and the newest head known.",
				func(_ *Verifier, s *Status) float64 {
					return float64(s.Newest) - float64(min(s.Position.Seq, s.Newest))
				}),
			gauge("staleness_seconds", "Time since the state was known to be the newest.",
				func(_ *Verifier, s *Status) float64 { return s.Staleness.Seconds() }),
			gauge("lease_left_seconds", "What is left of the lease; 0 when it is over.",
				func(_ *Verifier, s *Status) float64 { return s.LeaseLeft.Seconds() }),
			gauge("min_seq_waiting", "Checks that wait for their min_seq.",
				func(v *Verifier, _ *Status) float64 { return float64(v.tally.waiting.Load()) }),
			counter("events_applied_total", "Events applied since the start.", func(v *Verifier) uint64 { return v.tally.applied.Load() }),
			counter("stalls_total", "Failed attempts to follow the log.", func(v *Verifier) uint64 { return v.tally.stalls.Load() }),
			counter("lapses_total", "Times that the lease lapsed.", func(v *Verifier) uint64 { return v.tally.lapses.Load() }),
			counter("renewals_failed_total", "Attempts to renew the lease that failed.",
				func(v *Verifier) uint64 { return v.tally.renewFails.Load() }),
			counter("index_rebuilds_total", "Times that the index proved wrong and was begun anew.",
				func(v *Verifier) uint64 { return v.tally.rebuilds.Load() }),
			counter("snapshots_failed_total", "Snapshots that could not be used.", func(v *Verifier) uint64 { return v.tally.noSnapshot.Load() }),
			counter("uses_missed_total", "Checks that passed and are in no report, for there were too many keys at a time.",
				func(v *Verifier) uint64 {
					if v.uses == nil {
						return 0
					}
					return v.uses.missed.Load()
				}),
		},
	}
}

// Describe is prometheus.Collector's.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.checks
	to <- m.state
	for _, f := range m.figures {
		to <- f.desc
	}
}

// Collect is prometheus.Collector's.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	status := m.v.Status()
	for _, r := range projections.Reasons() {
		count := float64(m.v.tally.checks[r].Load())
		to <- prometheus.MustNewConstMetric(m.checks, prometheus.CounterValue, count, r.String())
	}
	for _, s := range States() {
		to <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, number(s == status.State), string(s))
	}
	for _, f := range m.figures {
		to <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(m.v, &status))
	}
}

func number(set bool) float64 {
	if set {
		return 1
	}
	return 0
}
