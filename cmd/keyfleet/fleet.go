package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keyfleet/keyfleet/registry"
)

const watchEvery = time.Second

func (a *app) fleetCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Show the verifiers, and what of the log they have",
		Long: `Shows every verifier instance that is a member of the fleet, as the active registry knows it: how far it has come, and how
much of its lease is left.

Exit status: 0 all is well, 3 some verifier has an alarm or does not answer checks.`,
		Example: `  keyfleet fleet --watch
  keyfleet fleet confirm 1234`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it anew each second, until interrupted")
	onlyOnCommandLine(cmd, "watch")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withSession(func(s *session) error {
			if watch {
				return a.watchFleet(cmd.Context(), s)
			}
			view, err := a.showFleet(cmd.Context(), s)
			if err == nil && !isWell(view) {
				err = silent(statusUnavailable)
			}
			return err
		})
	}
	cmd.AddCommand(a.fleetConfirm(), a.fleetRelease(), a.fleetLease(), a.fleetSigningKey())
	return a.asClient(cmd)
}

func (a *app) showFleet(ctx context.Context, s *session) (*registry.FleetView, error) {
	var view registry.FleetView
	if err := s.do(ctx, registry.FleetStatus, registry.Request{}, &view); err != nil {
		return nil, err
	}
	return &view, a.show(&view, fleetTable(&view))
}

// watchFleet clears a terminal before each table; elsewhere they follow each other.
func (a *app) watchFleet(ctx context.Context, s *session) error {
	f, isFile := a.out.(*os.File)
	onTerminal := !a.json && isFile && term.IsTerminal(int(f.Fd()))
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if onTerminal {
			_, _ = fmt.Fprint(a.out, "\x1b[H\x1b[2J")
		}
		if _, err := a.showFleet(ctx, s); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func isWell(view *registry.FleetView) bool {
	for _, v := range view.Verifiers {
		if len(v.Alarms) > 0 || (v.State != "serving" && v.State != "stalled") {
			return false
		}
	}
	return true
}

func fleetTable(view *registry.FleetView) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "registry %s, term %d; the log ends at Seq %d; leases last %s\n\n",
			clean(view.Registry), view.Term, view.Seq, span(view.LeaseMs))
		if err != nil {
			return err
		}
		t := table{head: []string{"POP", "VERIFIER", "INSTANCE", "VERSION", "PAST LEASE", "STATE", "APPLIED", "LAG", "HEARD", "LEASE LEFT", "LAST ACK", "ALARMS"}}
		for _, v := range view.Verifiers {
			t.add(orDash(v.PoP), v.Verifier, v.Instance.String(), orDash(v.Version), string(v.Mode), v.State,
				fmt.Sprint(v.Applied), fmt.Sprint(v.Lag), ago(v.SilentMs), span(v.LeaseLeftMs), ago(v.LastAckMs), orDash(strings.Join(v.Alarms, " ")))
		}
		if len(view.Verifiers) == 0 {
			_, err = fmt.Fprintln(w, "no verifier is a member")
			return err
		}
		return t.write(w)
	}
}

func ago(ms *int64) string {
	if ms == nil {
		return "-"
	}
	return span(*ms) + " ago"
}

func span(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= 10*time.Second {
		d = d.Round(time.Second)
	}
	return d.String()
}

func (a *app) fleetConfirm() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "confirm SEQ",
		Short: "Tell whether what was recorded at a Seq is everywhere",
		Long: `Prints the receipt of a Seq: which verifiers have it, and which may still answer from before, and until when. Every command
replies with its Seq.

Exit status: 0 confirmed, or fenced: no check that begins now is answered from before; 3 not yet.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().DurationVar(&wait, "wait-timeout", 2*time.Second, "how long to wait for the fleet: what nobody waited for is acknowledged within a moment")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		seq, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil || seq == 0 {
			return usageError("%q is no Seq: give a number, as commands reply with", args[0])
		}
		return a.withSession(func(s *session) error {
			var reply registry.ReceiptReply
			request := registry.Request{Seq: seq, WaitTimeout: wait.String()}
			if err := s.ask(cmd.Context(), s.timeout+wait, registry.FleetConfirm, request, &reply); err != nil {
				return err
			}
			if a.json {
				if err := writeJSON(a.out, &reply); err != nil {
					return err
				}
			}
			return a.tellReceipt(reply.Confirmation, reply.Seq)
		})
	}
	return cmd
}

func (a *app) fleetRelease() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "release INSTANCE --reason TEXT",
		Short: "Say that a verifier's machine is no more: nothing waits for it any longer",
		Long: `Ends the membership of an instance on your word that its machine answers nothing any more. Receipts then name you instead of
that machine. Should it come back, it serves nothing: it has to be restarted, and begins as another instance.

A verifier that was stopped, or that denies past its lease, needs no release: it leaves by itself.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record (required)")
	onlyOnCommandLine(cmd, "reason")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if reason == "" {
			return usageError("say with --reason how it is known that the machine answers nothing any more")
		}
		return a.changeFleet(cmd.Context(), registry.FleetRelease, registry.Request{Instance: args[0], Reason: reason}, "released "+args[0])
	}
	return cmd
}

func (a *app) fleetLease() *cobra.Command {
	return &cobra.Command{
		Use:   "lease DURATION",
		Short: "Set how long verifiers answer without hearing from the registry",
		Long: `Sets the lease of every grant from now on. A longer one lets PoPs answer through longer cuts. A shorter one makes a revocation
certain sooner where a PoP cannot be reached: that is how long "fenced" takes.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeFleet(cmd.Context(), registry.FleetLease, registry.Request{Lease: args[0]}, "leases last "+args[0])
		},
	}
}

func (a *app) changeFleet(ctx context.Context, verb registry.Verb, request registry.Request, done string) error {
	request.CommandID = newCommandID()
	return a.withSession(func(s *session) error {
		var reply registry.FleetReply
		if err := s.do(ctx, verb, request, &reply); err != nil {
			return err
		}
		return a.show(&reply, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s, at Seq %d\n", clean(done), reply.Seq)
			return err
		})
	})
}
