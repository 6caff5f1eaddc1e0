package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/registry"
)

// registryWatch hears what a registry does: it writes a log, counts, and tells once it is the active one.
type registryWatch struct {
	log *slog.Logger
	led chan error // has nil in it once a term was opened

	commits, commands, events, expired prometheus.Counter
	stalls, torn, ahead, usageRefused  prometheus.Counter
	active, seq, clockDoubted          prometheus.Gauge
}

func watchRegistry(log *slog.Logger, metrics prometheus.Registerer) (*registryWatch, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "keyfleet", Subsystem: "registry", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyfleet", Subsystem: "registry", Name: name, Help: help})
	}
	w := &registryWatch{
		log:          log,
		led:          make(chan error, 1),
		commits:      counter("commits_total", "Commits that this registry has made durable."),
		commands:     counter("commands_total", "Commands decided for those commits, refusals included."),
		events:       counter("events_total", "Events in those commits."),
		expired:      counter("expired_total", "Of the events, those that record ends of lifetimes."),
		stalls:       counter("stalls_total", "Failed attempts to follow the log."),
		torn:         counter("instances_torn_total", "Instances that two machines claimed to be."),
		ahead:        counter("verifiers_ahead_total", "Renewals from verifiers that had applied what the log does not hold."),
		usageRefused: counter("usage_refused_total", "Batches of verifiers' counts of uses that could not be believed."),
		active:       gauge("active", "1 while this registry is the active one, else 0."),
		seq:          gauge("seq", "Seq of the last event that this registry has made durable."),
		clockDoubted: gauge("clock_doubted", "1 while no expiry is recorded, because the clock disagrees with the NATS servers' or the verifiers', else 0."),
	}
	for _, c := range []prometheus.Collector{
		w.commits, w.commands, w.events, w.expired, w.stalls, w.torn, w.ahead, w.usageRefused, w.active, w.seq, w.clockDoubted,
	} {
		if err := metrics.Register(c); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *registryWatch) hear(e registry.Event) {
	switch e := e.(type) {
	case registry.TermOpened:
		w.log.Info("registry leads", "term", e.Term, "seq", e.At.Seq)
		w.active.Set(1)
		w.seq.Set(float64(e.At.Seq))
		select {
		case w.led <- nil:
		default:
		}
	case registry.SteppedDown:
		w.log.Warn("registry stands by", "cause", e.Cause)
		w.active.Set(0)
		w.clockDoubted.Set(0)
	case registry.Stalled:
		w.log.Warn("registry cannot follow the log for now", "error", e.Cause)
		w.stalls.Inc()
	case registry.Committed:
		w.log.Debug("committed", "seq", e.At.Seq, "commands", e.Commands, "events", e.Events, "expired", e.Expired)
		w.commits.Inc()
		w.commands.Add(float64(e.Commands))
		w.events.Add(float64(e.Events))
		w.expired.Add(float64(e.Expired))
		w.seq.Set(float64(e.At.Seq))
	case registry.ClockDoubted:
		w.log.Error("the clock is doubted: no expiry is recorded until it agrees with the NATS servers' and most verifiers' (keys die at their instant all the same)",
			"cause", e.Cause)
		w.clockDoubted.Set(1)
	case registry.InstanceTorn:
		w.log.Error("two machines are the same instance, one of them a copy: neither is granted a lease", "verifier", e.Verifier, "instance", e.Instance)
		w.torn.Inc()
	case registry.UsageRefused: // whoever sends one may send a million
		w.log.Debug("what a verifier counted of keys' uses is left out", "verifier", e.Verifier, "cause", e.Cause)
		w.usageRefused.Inc()
	case registry.VerifierAhead:
		w.log.Error("a verifier has applied what the log does not hold, and is granted no lease: has the log lost its end?",
			"verifier", e.Verifier, "instance", e.Instance, "seq", e.Applied.Seq, "chain", e.Applied.Chain)
		w.ahead.Inc()
	case registry.VerifierAlarm:
		v := e.Verifier
		level, text := slog.LevelInfo, "a verifier is well again"
		if e.Rings {
			level, text = slog.LevelWarn, "a verifier needs attention"
		}
		w.log.Log(context.Background(), level, text, "verifier", v.Verifier, "pop", v.PoP, "instance", v.Instance,
			"state", v.State, "alarms", v.Alarms, "lease_left_ms", v.LeaseLeftMs)
	case registry.ClockTrusted:
		w.log.Info("the clock agrees with the NATS servers' and the verifiers'")
		w.clockDoubted.Set(0)
	}
}
