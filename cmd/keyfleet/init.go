package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) initCommand() *cobra.Command {
	var keyPath string
	var replicas int
	var lease time.Duration
	cmd := &cobra.Command{
		Use:   "init --signing-key FILE",
		Short: "Create the log on a NATS server: once in its life",
		Long: `Creates the stream KEYFLEET_LOG and writes the event log_opened, which names the log's incarnation and the public half
of the key that signs its heads. The private half goes to --signing-key, with mode 0600: keep it, registries need it.

Never run init because a log is missing that was there before. A NATS server on the wrong directory, or with the
wrong encryption key, does not find its streams, and creating one under the same name destroys the old one's files.`,
		Example: `  keyfleet init --nats nats://127.0.0.1:4222 --signing-key keyfleet-signing.pem`,
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&keyPath, "signing-key", "", "file for the private signing key; one that exists is used, never overwritten (required)")
	cmd.Flags().IntVar(&replicas, "replicas", 1, "how many servers keep the log; 3 in production")
	cmd.Flags().DurationVar(&lease, "lease", projections.DefaultLease, "how long a verifier answers without hearing from a registry; keyfleet fleet lease changes it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if keyPath == "" {
			return usageError("say with --signing-key where the private signing key is to be kept")
		}
		if err := projections.CheckLease(lease); err != nil {
			return flagError("lease", "%v", err)
		}
		p, err := a.client.locate()
		if err != nil {
			return err
		}
		nc, err := a.client.connect(p)
		if err != nil {
			return err
		}
		defer nc.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), a.client.timeout)
		defer cancel()
		opened, err := initLog(ctx, nc, keyPath, eventlog.InitOptions{Replicas: replicas, Settings: leaseOf(lease), Actor: p.Actor})
		if errors.Is(err, eventlog.ErrAlreadyOpen) {
			return refusedError(registry.Conflict, "%v", err)
		}
		if err != nil {
			return err
		}
		return a.show(opened, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "log opened\nincarnation  %s\nlog key      %s\n\nThe private half of the log key is in %s: registries are started with --signing-key %[3]s.\n"+
				"Verifiers believe nothing that it did not sign: they are started with --log-key %[2]s.\n", opened.Incarnation, opened.SigningKey, keyPath)
			return err
		})
	}
	return a.asClient(cmd)
}

// leaseOf is the setting that says so, if it is another than without one.
func leaseOf(length time.Duration) []events.SettingChanged {
	if length == projections.DefaultLease {
		return nil
	}
	return []events.SettingChanged{{Name: projections.LeaseSetting, Value: length.String()}}
}

// openedLog is what init tells.
type openedLog struct {
	Incarnation events.Incarnation `json:"incarnation"`
	SigningKey  events.PublicKey   `json:"signing_key"`
	Stream      string             `json:"stream"`
}

// initLog creates the log. A signing key that is there already is taken: it is what an init that was
// interrupted has left. One that was made in vain is removed again.
func initLog(ctx context.Context, nc *nats.Conn, keyPath string, opts eventlog.InitOptions) (*openedLog, error) {
	key, made, err := findOrMakeSigningKey(keyPath)
	if err != nil {
		return nil, err
	}
	opts.SigningKey = publicHalf(key)
	at, err := eventlog.Init(ctx, nc, opts)
	if errors.Is(err, eventlog.ErrAlreadyOpen) && made {
		err = errors.Join(err, os.Remove(keyPath))
	}
	if err != nil {
		return nil, err
	}
	return &openedLog{at.Incarnation, opts.SigningKey, eventlog.StreamName}, nil
}

// openForReading opens the log and tells the Seq at which it ends.
func (c *clientFlags) openForReading(ctx context.Context, nc *nats.Conn) (*eventlog.Log, events.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	log, err := eventlog.Open(ctx, nc, eventlog.Options{ReadOnly: true, Mirror: c.mirror})
	if err != nil {
		return nil, 0, err
	}
	last, err := log.Last(ctx)
	if err != nil {
		return nil, 0, err
	}
	if _, err := log.Read(ctx, 1); errors.Is(err, eventlog.ErrNoCommit) && c.mirror {
		return nil, 0, unavailableError("this copy of the log does not go back to its beginning: read an auditor's, for which " +
			"`keyfleet deploy admit` and `keyfleet deploy mirror` were given --keep 0, or the hub's")
	}
	return log, last.Commit.Last(), nil
}
