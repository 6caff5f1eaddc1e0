package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

// indexCommand folds the log into an index that has no front, up to a Seq, and keeps it.
func indexCommand() *cobra.Command {
	var url, dir string
	var upTo uint64
	cmd := &cobra.Command{Use: "index", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return serveIndex(cmd.Context(), url, dir, events.Seq(upTo))
	}}
	cmd.Flags().StringVar(&url, "nats", "", "server of the log")
	cmd.Flags().StringVar(&dir, "data", "", "directory of the index")
	cmd.Flags().Uint64Var(&upTo, "up-to", 0, "Seq from which on it is complete")
	return cmd
}

func serveIndex(ctx context.Context, url, dir string, upTo events.Seq) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	log, err := eventlog.Open(ctx, nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	idx, err := keyindex.Open(dir, keyindex.Options{FrontBytes: -1})
	if err != nil {
		return err
	}
	complete := false
	err = log.Follow(ctx, idx.Position(), func(entries []events.Entry) error {
		if err := idx.Apply(entries); err != nil {
			return err
		}
		if !complete && idx.Position().Seq >= upTo {
			complete = true
			announce("index")
		}
		return nil
	})
	if ctx.Err() != nil {
		err = nil
	}
	return err
}

// startIndex returns once the index has all that is in the log.
func (s *stand) startIndex(ctx context.Context) (*process, error) {
	log, err := eventlog.Open(ctx, s.nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	last, err := log.Last(ctx)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := startProcess(ctx, s.patience, self, "serve", "index", "--nats", s.url, "--data", filepath.Join(s.dir, "index"),
		"--up-to", strconv.FormatUint(uint64(last.Commit.Last()), 10))
	if err == nil {
		s.others = append(s.others, p)
	}
	return p, err
}
