package main

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/keyfleet/keyfleet/loadtest/report"
)

var memory = scenario{"memory", "What each server has in memory with many keys, each in a process of its own, right after it has read the whole log, its caches among it, beside what it has with a single key.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		done := b.progress(fmt.Sprintf("memory with %d keys", b.million), time.Minute)
		defer done()
		without, err := b.weigh(ctx, 1)
		if err != nil {
			return err
		}
		with, err := b.weigh(ctx, b.million)
		if err != nil {
			return err
		}
		result.Figures = append(result.Figures, report.Figure{Name: "keys", Value: float64(b.million)})
		for i, w := range with {
			result.Figures = append(result.Figures,
				report.Figure{Name: w.what, Value: mebibytes(w.bytes), Unit: "MiB"},
				report.Figure{Name: w.what + ", with a single key", Value: mebibytes(without[i].bytes), Unit: "MiB"})
		}
		return nil
	}}

func mebibytes(bytes int64) float64 { return report.Significant(float64(bytes) / (1 << 20)) }

// weight is how many bytes something takes.
type weight struct {
	what  string
	bytes int64
}

// weigh starts servers on a log of so many keys, and finds the same things in the same order each time.
func (b *bench) weigh(ctx context.Context, keys int) (found []weight, err error) {
	s, err := newStand(ctx, b, keys, (*stand).keepLast)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	edge, err := s.startVerifier(ctx, "edge")
	if err != nil {
		return nil, err
	}
	bare, err := s.startIndex(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range []*process{edge.process, s.registry} {
		if err := p.collect(ctx); err != nil {
			return nil, err
		}
	}
	time.Sleep(b.length) // in which the runtime hands back what it has collected
	for _, w := range []struct {
		what string
		p    *process
	}{
		{"verifier, with the front of its index", edge.process}, {"an index alone, without a front", bare},
		{"registry", s.registry}, {"NATS server", s.nats},
	} {
		bytes, err := resident(w.p.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		found = append(found, weight{w.what, bytes})
	}
	for _, w := range []struct{ what, dir string }{{"verifier's index on disk", "edge"}, {"log on disk", "nats"}} {
		bytes, err := diskUse(filepath.Join(s.dir, w.dir))
		if err != nil {
			return nil, err
		}
		found = append(found, weight{w.what, bytes})
	}
	return found, nil
}

func diskUse(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}
