package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) auditCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Have the registry sign how far the log is, to be held to it later",
		Long: `Prints a signed checkpoint: the log's newest Seq, the chain hash and the root of its Merkle tree there, signed by the active
registry with the log's key (a C2SP signed note). Keep it where the registry's operators cannot change it. A log that is
rewritten before it no longer verifies: keyfleet audit verify --pin FILE.`,
		Example: `  keyfleet audit checkpoint > checkpoint
  keyfleet audit verify --pin checkpoint`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(func(s *session) error {
				var reply registry.CheckpointReply
				if err := s.do(cmd.Context(), registry.FleetCheckpoint, registry.Request{}, &reply); err != nil {
					return err
				}
				return a.show(&reply, func(w io.Writer) error {
					_, err := io.WriteString(w, reply.Checkpoint)
					return err
				})
			})
		},
	}
}
