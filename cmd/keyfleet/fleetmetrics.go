package main

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/registry"
)

// fleetMetrics shows the fleet as the active registry knows it. A standby shows none: sum over registries is the fleet.
// No label is called instance, which is Prometheus's own for what it scrapes.
type fleetMetrics struct {
	service                              *registry.Service
	state, lag, leaseLeft, silent, rings *prometheus.Desc
}

func newFleetMetrics(s *registry.Service) *fleetMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyfleet_fleet_"+name, help, append([]string{"pop", "verifier", "verifier_instance"}, labels...), nil)
	}
	return &fleetMetrics{
		service:   s,
		state:     desc("verifier_state", "1, with the state that the verifier was last known to be in.", "state"),
		lag:       desc("verifier_lag_events", "Events between the last one that the verifier applied and the log's end."),
		leaseLeft: desc("verifier_lease_left_seconds", "What is left of the verifier's last lease."),
		silent:    desc("verifier_silent_seconds", "Time since the verifier was last heard of in this term."),
		rings:     desc("verifier_alarm", "1 while the verifier has the alarm, else 0.", "alarm"),
	}
}

// Describe is prometheus.Collector's.
func (m *fleetMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.lag, m.leaseLeft, m.silent, m.rings} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (m *fleetMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	answer, err := m.service.Do(ctx, registry.Command{Actor: "_metrics", Verb: registry.FleetStatus})
	view, ok := answer.(*registry.FleetView)
	if err != nil || !ok {
		return // this registry stands by
	}
	for _, v := range view.Verifiers {
		gauge := func(d *prometheus.Desc, value float64, label ...string) {
			labels := append([]string{v.PoP, v.Verifier, v.Instance.String()}, label...)
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
		}
		gauge(m.state, 1, v.State)
		gauge(m.lag, float64(v.Lag))
		gauge(m.leaseLeft, seconds(v.LeaseLeftMs))
		if v.SilentMs != nil {
			gauge(m.silent, seconds(*v.SilentMs))
		}
		for _, alarm := range registry.Alarms() {
			gauge(m.rings, number(slices.Contains(v.Alarms, alarm)), alarm)
		}
	}
}

func number(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }
