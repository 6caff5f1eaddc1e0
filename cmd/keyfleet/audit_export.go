package main

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) auditExport() *cobra.Command {
	var keyFile string
	var trust auditTrust
	cmd := &cobra.Command{
		Use:   "export ARCHIVE --signing-key FILE",
		Short: "Write the whole log to a file that proves itself, and print a signed checkpoint of it",
		Long: `Reads the stream, verifies it on the way, and writes an archive: every commit as it stands in the log, compressed and
checksummed, closed by a checkpoint that the log's key signs. It can be verified anywhere, by anybody, offline, and a
registry can be brought back from it.

The private half of the log's key is needed here, so run this where the registry runs. By signing you vouch, as the
registry does with every head, that this is the log; --pin makes sure of it by older checkpoints, which go into
the archive too. The checkpoint on standard output is for somebody else to keep.`,
		Example: `  keyfleet audit export log.kfa --signing-key keyfleet-signing.pem > checkpoint`,
		Args:    cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&keyFile, "signing-key", "", "file with the private half of the log's key, as keyfleet init wrote it (required)")
	f.StringArrayVar(&trust.pins, "pin", nil, "file with a signed checkpoint that was kept; may be repeated")
	onlyOnCommandLine(cmd, "pin")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if keyFile == "" {
			return usageError("say with --signing-key where the private half of the log's key is: an archive that nobody signed proves nothing")
		}
		key, err := readSigningKey(keyFile)
		if err != nil {
			return err
		}
		trust.keys = logKeys{publicHalf(key)}
		opts, err := trust.options()
		if err != nil {
			return err
		}
		c, err := a.openCopy(cmd.Context(), "", "exporting")
		if err != nil {
			return err
		}
		defer c.close()
		done, err := exportTo(args[0], c, opts, key)
		if err != nil {
			return a.asRefusal(err)
		}
		a.say("%s holds the log up to Seq %d; give the checkpoint to somebody else to keep", args[0], done.Seq)
		return a.show(done, func(w io.Writer) error {
			_, err := io.WriteString(w, done.Note)
			return err
		})
	}
	return cmd
}

// exported is what export tells.
type exported struct {
	proof.Verified
	File string `json:"file"`
	Note string `json:"note"` // the signed checkpoint
}

// exportTo writes the archive, whole or not at all.
func exportTo(name string, c *auditCopy, opts proof.Options, key ed25519.PrivateKey) (*exported, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, refusedError(registry.Conflict, "%s is there already, and archives are not written over; name another file", name)
	}
	if err != nil {
		return nil, err
	}
	done, err := export(f, c, opts, key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(name))
	}
	done.File = name
	return done, nil
}

func export(f io.Writer, c *auditCopy, opts proof.Options, key ed25519.PrivateKey) (*exported, error) {
	pins, err := bySeq(opts.Pins)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	var archive *proof.ArchiveWriter
	verified, err := c.replay(opts, func(e events.Entry) error {
		if archive == nil {
			var err error
			if archive, err = proof.NewArchive(buffered, e.Commit.Incarnation, publicHalf(key)); err != nil {
				return err
			}
		}
		return addCommit(archive, e, pins[e.Commit.Last()])
	})
	if err != nil {
		return nil, err
	}
	if !slices.Contains(verified.LogKeys, publicHalf(key)) {
		return nil, refusedError(registry.Conflict, "the key of --signing-key, %s, is not one that this log names as its own", publicHalf(key))
	}
	note, err := verified.Sign(key)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(archive.End(note), buffered.Flush()); err != nil {
		return nil, fmt.Errorf("write the archive: %w", err)
	}
	return &exported{Verified: verified, Note: string(note)}, nil
}

// bySeq sorts checkpoints by where they stand. That they fit is for the Replay to find.
func bySeq(notes [][]byte) (map[events.Seq][]byte, error) {
	sorted := map[events.Seq][]byte{}
	for _, note := range notes {
		c, err := proof.PeekCheckpoint(note)
		if err != nil {
			return nil, refusedError(registry.Invalid, "--pin: %v", err)
		}
		sorted[c.Seq] = note
	}
	return sorted, nil
}

// addCommit adds what was read, and the checkpoint that was kept of it.
func addCommit(archive *proof.ArchiveWriter, e events.Entry, pin []byte) error {
	body, err := e.Commit.Encode() // the bytes that were read: a commit has one form
	if err != nil {
		return err
	}
	if events.HashCommit(body) != e.Chain {
		return fmt.Errorf("the commit of Seq %d is encoded otherwise than it was read", e.Commit.First)
	}
	if err := archive.Commit(body); err != nil || pin == nil {
		return err
	}
	return archive.Checkpoint(pin)
}
