// Command loadtest puts Keyfleet under load: real servers in processes of their own, a log that syncs every write,
// callers that do not wait for each other. It measures scenarios, keeps what came out as JSON, and shows it on a page.
//
// It promises that every load is bounded in rate, count and time and goes to loopback alone, and that what it starts ends
// with it, unless it is killed outright. The tests and benchmarks beside it try the fleet out where that takes a hand on its inside: clocks, faults,
// hundreds of verifiers. The speed of single parts is left to the benchmarks beside those.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/loadtest/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand(os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
}

func newCommand(stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "loadtest", Short: "Put Keyfleet under load, and show what came out",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(runCommand(stderr), pageCommand(), serveCommand())
	return root
}

func runCommand(stderr io.Writer) *cobra.Command {
	var o options
	var out string
	cmd := &cobra.Command{
		Use:   "run [SCENARIO…]",
		Short: "Measure scenarios, all of the committed set by default",
		Long:  "Measures scenarios and writes what came out to a directory, as run.json, index.html, README.md and numbers.svg.\n\n" + scenarioHelp(),
	}
	f := cmd.Flags()
	f.StringVar(&o.keyfleet, "keyfleet", "bin/keyfleet", "the binary to start servers from")
	f.IntVar(&o.keys, "keys", 100_000, "keys in the log")
	f.Float64Var(&o.zipf, "zipf", 1.1, "exponent of the keys' popularity, above 1; 0 for all the same")
	f.Float64Var(&o.rate, "rate", 2000, "checks that fall due in a second, where latency is measured")
	f.DurationVar(&o.length, "for", 3*time.Second, "how long each load goes on")
	f.IntVar(&o.workers, "workers", 64, "connections of each load")
	f.IntVar(&o.verifiers, "verifiers", 20, "how many of them a revocation has to reach")
	f.IntVar(&o.million, "memory-keys", 1_000_000, "keys to fill servers with, to see what memory they take")
	f.DurationVar(&o.soak, "soak", 20*time.Second, "how long keys come and go, to see whether memory grows")
	f.StringVar(&out, "out", "bin/results", "directory for what came out")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		chosen, err := choose(names)
		if err != nil {
			return err
		}
		if err := o.check(); err != nil {
			return err
		}
		r, err := measure(cmd.Context(), o, chosen, stderr)
		if err != nil {
			return err
		}
		return writeResults(out, r)
	}
	return cmd
}

func pageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "page RUN.json [BEFORE.json]",
		Short: "Write the page of a run, beside one before it, to standard output",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, files []string) error {
			r, err := readRun(files[0])
			if err != nil {
				return err
			}
			var before *report.Run
			if len(files) == 2 {
				if before, err = readRun(files[1]); err != nil {
					return err
				}
			}
			return report.Write(cmd.OutOrStdout(), r, before)
		},
	}
}
