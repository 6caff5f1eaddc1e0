package main

import (
	"encoding"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) auditProve() *cobra.Command {
	var seq uint64
	var from string
	cmd := &cobra.Command{
		Use:   "prove ARCHIVE --seq N | --from CHECKPOINT",
		Short: "Write a proof that an event is in the log, or that the log grew out of an older one",
		Long: `Writes a proof of some hundred bytes for somebody who does not have the log, and should not. With --seq it shows one event and proves that
it stands there (C2SP tlog-proof); with --from it proves that nothing was changed or taken away since that checkpoint.
keyfleet audit verify --proof checks both.`,
		Example: `  keyfleet audit prove log.kfa --seq 17 > event-17.proof
  keyfleet audit prove log.kfa --from checkpoint-of-june > growth.proof`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.Uint64Var(&seq, "seq", 0, "event to prove")
	f.StringVar(&from, "from", "", "file with the older checkpoint")
	onlyOnCommandLine(cmd, "seq", "from")
	cmd.MarkFlagsOneRequired("seq", "from")
	cmd.MarkFlagsMutuallyExclusive("seq", "from")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var old []byte
		var err error
		if from != "" {
			if old, err = os.ReadFile(from); err != nil {
				return refusedError(registry.NotFound, "--from: %v", err)
			}
		}
		text, err := a.prove(cmd, args[0], events.Seq(seq), old)
		if err != nil {
			return a.asRefusal(err)
		}
		return a.show(map[string]string{"proof": string(text)}, func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		})
	}
	return cmd
}

// prove reads the archive twice: what a proof consists of depends on where the log ends.
func (a *app) prove(cmd *cobra.Command, file string, seq events.Seq, old []byte) ([]byte, error) {
	var opts proof.Options
	var since proof.Checkpoint
	if old != nil {
		var err error
		if since, err = proof.PeekCheckpoint(old); err != nil {
			return nil, refusedError(registry.Invalid, "--from: %v", err)
		}
		opts.Pins = [][]byte{old}
	}
	var leaf []byte
	whole, note, err := a.readArchive(cmd, file, opts, func(_ events.Seq, _ []byte) {})
	if err != nil {
		return nil, err
	}
	prover, err := proof.ProveInclusion(whole.Seq, seq)
	if old != nil {
		prover, err = proof.ProveGrowth(whole.Seq, since.Seq)
	}
	if err != nil {
		return nil, refusedError(registry.NotFound, "the archive ends at Seq %d: %v", whole.Seq, err)
	}
	if _, _, err := a.readArchive(cmd, file, opts, func(at events.Seq, bytes []byte) {
		prover.Add(bytes)
		if at == seq {
			leaf = bytes
		}
	}); err != nil {
		return nil, err
	}
	hashes, err := prover.Hashes()
	if err != nil {
		return nil, err
	}
	var p encoding.TextMarshaler = &proof.Inclusion{Seq: seq, Leaf: leaf, Hashes: hashes, Checkpoint: note}
	if old != nil {
		p = &proof.Growth{Old: since.Seq, Hashes: hashes, Checkpoint: note}
	}
	return p.MarshalText()
}

// readArchive verifies an archive, shows its leaves, and gives the checkpoint that closes it.
func (a *app) readArchive(cmd *cobra.Command, file string, opts proof.Options, leaf func(events.Seq, []byte)) (proof.Verified, []byte, error) {
	c, err := a.openCopy(cmd.Context(), file, "reading")
	if err != nil {
		return proof.Verified{}, nil, err
	}
	defer c.close()
	v, err := c.replay(opts, func(e events.Entry) error {
		for i := range e.Commit.Events() {
			leaf(e.Commit.First+events.Seq(i), e.Commit.Leaf(i))
		}
		return nil
	})
	return v, c.checkpoint, err
}
