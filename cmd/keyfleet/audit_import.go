package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/projections/proof"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) auditImport() *cobra.Command {
	var trust auditTrust
	var keyFile string
	var replicas int
	cmd := &cobra.Command{
		Use:   "import ARCHIVE --signing-key FILE",
		Short: "Bring a registry back from an archive, on NATS servers that have no log",
		Long: `Verifies the archive, and then writes its commits to a new log: keys, attachments, deployments, settings and command ids come
back as they were, under the dates of then. It is always another incarnation, with other Seqs, so that nobody takes it
for the log that it was made from: registries and verifiers begin with empty directories, and verifiers register anew.

Until the last commit is durable the log cannot be opened by anybody. An import that was interrupted is finished by
running it again. An archive that does not verify is refused before anything is written.`,
		Example: `  keyfleet audit import log.kfa --signing-key keyfleet-signing.pem --log-key 6f2c… --nats nats://127.0.0.1:4222`,
		Args:    cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&keyFile, "signing-key", "", "file for the private signing key; one that exists is used, never overwritten (required)")
	f.IntVar(&replicas, "replicas", 1, "how many servers keep the log; 3 in production")
	f.Var(&trust.keys, "log-key", "public half of the key of the log that is brought back; without it that key is believed which the archive names")
	f.StringArrayVar(&trust.pins, "pin", nil, "file with a signed checkpoint that was kept; may be repeated")
	onlyOnCommandLine(cmd, "pin")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if keyFile == "" {
			return usageError("say with --signing-key where the private signing key is to be kept")
		}
		opts, err := trust.options()
		if err != nil {
			return err
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
		i := &importing{app: a, file: args[0], opts: opts, nc: nc}
		i.restore.Replicas, i.restore.Actor = replicas, p.Actor
		done, err := i.run(cmd.Context(), keyFile)
		if err != nil {
			return a.asRefusal(err)
		}
		return a.show(done, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "imported %d events of %s\nincarnation  %s\nlog key      %s\n", done.Events, done.From, done.Incarnation, done.SigningKey)
			return err
		})
	}
	return cmd
}

// imported is what import tells.
type imported struct {
	openedLog
	From   events.Incarnation `json:"from"`
	Events events.Seq         `json:"events"` // the Seq at which the new log ends
}

// importing brings one archive back.
type importing struct {
	*app
	file    string
	opts    proof.Options
	nc      *nats.Conn
	restore eventlog.RestoreOptions
}

// run reads the archive twice. Nothing is written before all of it was found to be true, and nobody can open
// what is written before that was found once more: of a file that changes meanwhile, too.
func (i *importing) run(ctx context.Context, keyFile string) (*imported, error) {
	whole, err := i.pass(ctx, func(e events.Entry) error {
		if e.Commit.First == 1 {
			i.restore.Opened = e.Commit.Time
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	key, made, err := findOrMakeSigningKey(keyFile)
	if err != nil {
		return nil, err
	}
	done, err := i.write(ctx, whole, key)
	if errors.Is(err, eventlog.ErrAlreadyOpen) {
		if made {
			err = errors.Join(err, os.Remove(keyFile))
		}
		return nil, refusedError(registry.Conflict, "there is a log on the server already, and an import writes over nothing: %v", err)
	}
	return done, err
}

func (i *importing) write(ctx context.Context, whole proof.Verified, key ed25519.PrivateKey) (*imported, error) {
	i.restore.SigningKey = publicHalf(key)
	i.restore.Reason = fmt.Sprintf("imported from %s at Seq %d, root %s", whole.Incarnation, whole.Seq, whole.Root)
	log, at, err := eventlog.Restore(ctx, i.nc, i.restore)
	if err != nil {
		return nil, err
	}
	again, err := i.pass(ctx, func(e events.Entry) error {
		c, err := history.Carry(e.Commit, at)
		if err != nil || c == nil {
			return err
		}
		written, err := log.Append(ctx, at, c)
		if err == nil {
			at, err = at.Next(written)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if again.Checkpoint != whole.Checkpoint {
		return nil, refusedError(registry.Conflict, "%s was changed while it was imported; the log that was begun cannot be opened", i.file)
	}
	if err := log.Restored(ctx); err != nil {
		return nil, err
	}
	return &imported{openedLog{at.Incarnation, i.restore.SigningKey, eventlog.StreamName}, whole.Incarnation, at.Seq}, nil
}

// pass reads the archive once.
func (i *importing) pass(ctx context.Context, show func(events.Entry) error) (proof.Verified, error) {
	c, err := i.openCopy(ctx, i.file, "importing")
	if err != nil {
		return proof.Verified{}, err
	}
	defer c.close()
	return c.replay(i.opts, show)
}
