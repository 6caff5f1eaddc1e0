package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) fleetSigningKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "signing-key",
		Short: "Change the key that signs leases, snapshots and checkpoints",
		Long: `The log names its signing keys, and verifiers believe a new one once the one they know has signed a head behind its naming. So:
add the new key, and wait until that is confirmed; start every registry with it (--signing-key); give verifiers the new --log-key
with their next restart; then retire the old one. keyfleet fleet --json shows log_keys, and signed_by.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "add FILE",
		Short: "Let the log be signed with the key in FILE, which is made if there is none",
		Long: `Names one more signing key in the log, and waits until every verifier knows it. FILE holds the private half, for the registries'
--signing-key; only the public half is sent.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, _, err := findOrMakeSigningKey(args[0])
			if err != nil {
				return err
			}
			return a.changeSigningKey(cmd, registry.FleetAddSigningKey, publicHalf(key), "the log may be signed with %s")
		},
	}, &cobra.Command{
		Use:   "retire KEY",
		Short: "Have nobody believe what the key signs from now on",
		Long: `Ends the use of a signing key, given by its public half. The active registry must sign with another by then. What the key signed
before, checkpoints among it, stays as good as it was.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var key logKeys
			if err := key.Set(args[0]); err != nil {
				return usageError("%v", err)
			}
			return a.changeSigningKey(cmd, registry.FleetRetireSigningKey, key[0], "nothing that %s signs is believed any more")
		},
	})
	return cmd
}

func (a *app) changeSigningKey(cmd *cobra.Command, verb registry.Verb, key events.PublicKey, done string) error {
	request := registry.Request{SigningKey: key.String(), CommandID: newCommandID(), Wait: registry.WaitConfirmed}
	return a.withSession(func(s *session) error {
		var reply registry.FleetReply
		if err := s.do(cmd.Context(), verb, request, &reply); err != nil {
			return err
		}
		err := a.show(&reply, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, done+", at Seq %d\n", key, reply.Seq)
			return err
		})
		if err != nil {
			return err
		}
		return a.tellReceipt(reply.Confirmation, reply.Seq)
	})
}
