package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/events/eventlog"
)

const (
	reservedPart = 10       // one part in so many is for revocations: with less left, nothing is created
	reservedMost = 10 << 30 // bytes; of a large disk no more than that
	lookEvery    = 2 * time.Second
	lookTimeout  = 5 * time.Second
)

// storageProbe tells how much of each place that the registry fills up is in use, and how many copies of the log are
// missing or incomplete. It tells what it can, beside an error.
type storageProbe func(context.Context) (places []eventlog.Storage, behind int, err error)

// storageWatch knows how full the disks were a moment ago. What cannot be asked about is not taken for full.
type storageWatch struct {
	probe storageProbe
	log   *slog.Logger
	last  atomic.Pointer[storageReading]

	used, full, behind *prometheus.Desc
}

type storageReading struct {
	places []eventlog.Storage
	behind int
	full   string // what is, for people; empty when nothing is
	failed bool
}

func newStorageWatch(probe storageProbe, log *slog.Logger) *storageWatch {
	w := &storageWatch{
		probe: probe, log: log,
		used: prometheus.NewDesc("keyfleet_registry_storage_used_ratio",
			"Used part of the registry's disk, and of what the log may take of the NATS account and servers.", []string{"storage"}, nil),
		full:   prometheus.NewDesc("keyfleet_registry_storage_full", "1 while nothing is created because some storage is nearly full, else 0.", nil, nil),
		behind: prometheus.NewDesc("keyfleet_registry_log_replicas_behind", "Copies of the log that are incomplete or cannot be reached.", nil, nil),
	}
	w.last.Store(&storageReading{})
	return w
}

// run looks every now and then until ctx ends.
func (w *storageWatch) run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		w.look(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (w *storageWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	places, behind, err := w.probe(ctx)
	now := &storageReading{places: places, behind: behind, failed: err != nil}
	for _, p := range places {
		if left := p.Limit - min(p.Used, p.Limit); left < min(p.Limit/reservedPart, reservedMost) {
			now.full = fmt.Sprintf("%s is %.0f%% full", p.Name, 100*ratio(p))
		}
	}
	before := w.last.Swap(now)
	switch {
	case now.full != "" && before.full == "":
		w.log.Error("nothing is created before there is more room; revocations go on", "full", now.full)
	case now.full == "" && before.full != "":
		w.log.Info("there is room again")
	}
	if now.failed && !before.failed {
		w.log.Debug("it cannot be told how full some storage is", "error", err)
	}
}

// Full is the registry's Options.Full.
func (w *storageWatch) Full() string { return w.last.Load().full }

func ratio(s eventlog.Storage) float64 { return float64(s.Used) / float64(s.Limit) }

// Describe is prometheus.Collector's.
func (w *storageWatch) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{w.used, w.full, w.behind} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (w *storageWatch) Collect(to chan<- prometheus.Metric) {
	now := w.last.Load()
	for _, p := range now.places {
		to <- prometheus.MustNewConstMetric(w.used, prometheus.GaugeValue, ratio(p), p.Name)
	}
	to <- prometheus.MustNewConstMetric(w.full, prometheus.GaugeValue, number(now.full != ""))
	to <- prometheus.MustNewConstMetric(w.behind, prometheus.GaugeValue, float64(now.behind))
}

// probeStorage looks at the registry's own disk, and asks NATS.
func (r *registryParts) probeStorage(ctx context.Context) (places []eventlog.Storage, behind int, err error) {
	if disk, err := vfs.Default.GetDiskUsage(r.data); err == nil {
		places = append(places, eventlog.Storage{Name: "the registry's disk", Used: disk.UsedBytes, Limit: disk.UsedBytes + disk.AvailBytes})
	}
	log, behind, err := eventlog.Storages(ctx, r.nc, r.system)
	return append(places, log...), behind, err
}

// watchStorage begins to look.
func (r *registryParts) watchStorage(stop *stopping) error {
	r.storage = newStorageWatch(r.probeStorage, stop.log)
	if err := r.metrics.Register(r.storage); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.storage.run(ctx) }()
	stop.then("look at storage", func() error { cancel(); <-done; return nil })
	return nil
}
