package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/projections/proof"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) auditVerify() *cobra.Command {
	var trust auditTrust
	var proofFile string
	cmd := &cobra.Command{
		Use:   "verify [ARCHIVE]",
		Short: "Prove that a copy of the log is whole and unchanged, or name the first Seq that is not",
		Long: `Reads an archive, or without one the stream on the NATS server itself, and trusts neither: every event is decoded, every
chain hash and the root of the Merkle tree are computed anew, every signed checkpoint on the way is checked. What
is found is the first event that cannot be believed, exactly so if one thing was changed and what lies behind it was not.

The stream bears no signatures. By itself it proves only that it fits together; give checkpoints with --pin. A checkpoint is
worth most when somebody else has kept it: then nothing up to it can be changed without being found out, not even by who
has the log's key. Without --log-key the key is believed that the copy itself names.

With --proof one proof is checked instead, and no copy of the log is needed.`,
		Example: `  keyfleet audit verify log.kfa --log-key 6f2c…
  keyfleet audit verify --pin checkpoint-of-june --log-key 6f2c…
  keyfleet audit verify --proof event-17.proof --log-key 6f2c…`,
		Args: cobra.MaximumNArgs(1),
	}
	f := cmd.Flags()
	f.Var(&trust.keys, "log-key", "public half of the log's key, as keyfleet init prints it; repeated where it was changed")
	f.StringArrayVar(&trust.pins, "pin", nil, "file with a signed checkpoint that was kept; may be repeated")
	f.StringVar(&proofFile, "proof", "", "file with a proof of keyfleet audit prove; one of growth needs the older checkpoint as --pin")
	onlyOnCommandLine(cmd, "pin", "proof")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if proofFile != "" {
			return a.verifyProof(proofFile, trust)
		}
		opts, err := trust.options()
		if err != nil {
			return err
		}
		c, err := a.openCopy(cmd.Context(), firstOf(args), "verifying")
		if err != nil {
			return err
		}
		defer c.close()
		began, found := time.Now(), verification{}
		found.Verified, err = c.replay(opts, func(events.Entry) error { return nil })
		if err != nil {
			return a.asRefusal(err)
		}
		found.OK, found.Took = true, time.Since(began)
		found.EventsPerSecond = int(float64(found.Seq) / found.Took.Seconds())
		return a.show(&found, found.write)
	}
	return cmd
}

func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// verification is what was found of a copy that is the log.
type verification struct {
	OK bool `json:"verified"`
	proof.Verified
	Took            time.Duration `json:"-"`
	EventsPerSecond int           `json:"events_per_second"`
}

func (v *verification) write(w io.Writer) error {
	t := table{rows: [][]string{
		{"incarnation", v.Incarnation.String()},
		{"events", fmt.Sprintf("%d in %d commits, the last of %s", v.Seq, v.Commits, v.Time)},
		{"chain hash", v.Chain.String()},
		{"tree root", v.Root.String()},
		{"signed", v.signature()},
	}}
	if err := t.write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nverified: every one of the %d events is where it was written and as it was written (%s, %d events/s)\n",
		v.Seq, v.Took.Round(time.Millisecond), v.EventsPerSecond)
	return err
}

func (v *verification) signature() string {
	switch {
	case v.SignedBy == nil:
		return "nothing: it fits together, and that is all; give a checkpoint with --pin"
	case !v.Trusted:
		return fmt.Sprintf("up to Seq %d by %s, a key that this copy itself names; give --log-key", v.Signed, v.SignedBy)
	default:
		return fmt.Sprintf("up to Seq %d by %s", v.Signed, v.SignedBy)
	}
}

// proven is what a proof proves.
type proven struct {
	OK         bool             `json:"verified"`
	Checkpoint proof.Checkpoint `json:"checkpoint"`
	Old        events.Seq       `json:"grew_from,omitempty"`
	Event      *history.Entry   `json:"event,omitempty"`
}

func (a *app) verifyProof(file string, trust auditTrust) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return refusedError(registry.NotFound, "--proof: %v", err)
	}
	if len(trust.keys) == 0 {
		return usageError("a proof is worth what its signature is: give the log's key with --log-key, as keyfleet init printed it")
	}
	if len(trust.pins) > 0 {
		return a.verifyGrowth(text, trust)
	}
	p, under, err := proof.OpenInclusion(text, trust.keys...)
	if err != nil {
		return refusedError(registry.Conflict, "nothing is proven: %v", err)
	}
	e, err := events.DecodeEvent(p.Leaf)
	if err != nil {
		return refusedError(registry.Conflict, "what is proven to stand at Seq %d is no event: %v", p.Seq, err)
	}
	// A leaf has no date of its own: it was written no later than the checkpoint.
	entry, err := history.Describe(&e, p.Seq, under.Time, nil)
	if err != nil {
		return err
	}
	return a.show(proven{OK: true, Checkpoint: under, Event: &entry}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "proven: Seq %d of %s is %s of %s in %s by %s: %s (written by %s)\n", p.Seq, under.Incarnation,
			entry.Type, clean(orDash(entry.Subject)), clean(orDash(entry.Project)), clean(orDash(entry.Actor)), clean(entryDetails(&entry)), under.Time)
		return err
	})
}

func (a *app) verifyGrowth(text []byte, trust auditTrust) error {
	opts, err := trust.options()
	if err != nil {
		return err
	}
	old, _, err := proof.OpenCheckpoint(opts.Pins[0], trust.keys...)
	if err != nil {
		return refusedError(registry.Conflict, "--pin: %v", err)
	}
	grown, err := proof.OpenGrowth(text, old, trust.keys...)
	if err != nil {
		return refusedError(registry.Conflict, "nothing is proven: %v", err)
	}
	return a.show(proven{OK: true, Checkpoint: grown, Old: old.Seq}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "proven: the log of Seq %d grew out of the log of Seq %d; nothing up to there was changed\n", grown.Seq, old.Seq)
		return err
	})
}
