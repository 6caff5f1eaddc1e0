package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/loadtest/report"
)

// options bound a run.
type options struct {
	keyfleet  string
	keys      int
	zipf      float64
	rate      float64
	length    time.Duration
	workers   int
	verifiers int
	million   int
	soak      time.Duration
}

func (o *options) check() error {
	switch {
	case o.keys < 1 || o.keys > 10_000_000 || o.million < 1 || o.million > 10_000_000:
		return fmt.Errorf("from 1 to 10,000,000 keys, not %d and %d", o.keys, o.million)
	case o.zipf != 0 && o.zipf <= 1:
		return fmt.Errorf("--zipf is 0 or above 1, not %v", o.zipf)
	case !(o.rate >= 1 && o.rate <= 1e6):
		return fmt.Errorf("--rate is from 1 to 1,000,000 checks a second, not %v", o.rate)
	case o.length < time.Second || o.length > time.Hour || o.soak < time.Second || o.soak > time.Hour:
		return fmt.Errorf("--for and --soak are from 1s to 1h, not %s and %s", o.length, o.soak)
	case o.workers < 1 || o.workers > 10_000 || o.verifiers < 1 || o.verifiers > 1000:
		return fmt.Errorf("--workers is from 1 to 10,000 and --verifiers to 1,000, not %d and %d", o.workers, o.verifiers)
	}
	return nil
}

// scenario is one story to try out.
type scenario struct {
	name    string
	about   string
	measure func(context.Context, *bench, *report.Scenario) error
}

// scenarios are the committed set, in the order in which they are measured.
func scenarios() []scenario {
	return []scenario{
		checks, incumbents, scanner, commands, revocation, midnight, mixedDay, memory, soak,
	}
}

func scenarioHelp() string {
	var help strings.Builder
	help.WriteString("Scenarios:\n")
	for _, s := range scenarios() {
		fmt.Fprintf(&help, "  %-11s %s\n", s.name, s.about)
	}
	return help.String()
}

func choose(names []string) (chosen []scenario, err error) {
	if len(names) == 0 {
		return scenarios(), nil
	}
	for _, name := range names {
		i := slices.IndexFunc(scenarios(), func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %s\n\n%s", name, scenarioHelp())
		}
		chosen = append(chosen, scenarios()[i])
	}
	return chosen, nil
}

// bench is a run while it measures.
type bench struct {
	options
	dir    string // that everything is kept in, until the run ends
	stderr io.Writer
	common *stand // that scenarios share, from when the first one asks for it
}

func measure(ctx context.Context, o options, chosen []scenario, stderr io.Writer) (*report.Run, error) {
	dir, err := os.MkdirTemp("", "keyfleet-loadtest-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if o.keyfleet, err = filepath.Abs(o.keyfleet); err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, stderr: stderr}
	r := &report.Run{Started: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(ctx, o.keyfleet)}
	begun := time.Now()
	for _, s := range chosen {
		result := report.Scenario{Name: s.name, About: s.about}
		err := s.measure(ctx, b, &result)
		if err == nil {
			err = ctx.Err() // what was cut short is no measurement
		}
		if err != nil {
			b.common.stop()
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		r.Scenarios = append(r.Scenarios, result)
	}
	b.common.stop()
	r.Seconds = math.Round(time.Since(begun).Seconds())
	return r, nil
}

// load carries out one load and shows that it is under way.
func (b *bench) load(ctx context.Context, name string, l openloop.Load, open openloop.Opening) (report.Series, error) {
	runtime.GC()
	done := b.progress(name, l.For)
	defer done()
	s, err := quietLoad(ctx, l, open)
	if err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	s.Name = name
	return s, nil
}

// quietLoad carries out a load that is part of something larger.
func quietLoad(ctx context.Context, l openloop.Load, open openloop.Opening) (report.Series, error) {
	o, err := l.Run(ctx, open)
	if err != nil {
		return report.Series{}, err
	}
	return report.Of("", l.Rate, o), nil
}

// progress shows people a bar that takes so long to fill, and others a line.
func (b *bench) progress(what string, long time.Duration) (done func()) {
	f, ok := b.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		_, _ = fmt.Fprintln(b.stderr, what)
		return func() {}
	}
	bar := progressbar.NewOptions64(long.Milliseconds(), progressbar.OptionSetDescription(fmt.Sprintf("%-44s", what)),
		progressbar.OptionSetWriter(f), progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(false),
		progressbar.OptionOnCompletion(func() { _, _ = fmt.Fprintln(f) }))
	begun := time.Now()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = bar.Set64(min(time.Since(begun), long-time.Millisecond).Milliseconds())
			case <-stop:
				_ = bar.Finish()
				return
			}
		}
	}()
	return func() { close(stop); <-stopped }
}
