package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/registry"
)

// changeFlags are what every command that changes something takes.
type changeFlags struct {
	commandID   string
	wait        string
	waitTimeout string
	expectRev   uint64
}

func (c *changeFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.wait, "wait", registry.WaitRecorded, "return once the change is recorded, or confirmed by the whole fleet")
	cmd.Flags().StringVar(&c.waitTimeout, "wait-timeout", "30s", "how long to wait for the fleet")
	cmd.Flags().StringVar(&c.commandID, "command-id", "", "makes repeating the command safe: an id has one effect for the life of the log (default: a new one)")
	onlyOnCommandLine(cmd, "command-id")
}

func (c *changeFlags) addRevisionTo(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&c.expectRev, "expect-rev", 0, "refuse unless it is at this revision")
	onlyOnCommandLine(cmd, "expect-rev")
}

// request is one with the fields that the flags speak of.
func (c *changeFlags) request() registry.Request {
	r := registry.Request{CommandID: cmp.Or(c.commandID, newCommandID()), Wait: c.wait}
	if c.wait == registry.WaitConfirmed {
		r.WaitTimeout = c.waitTimeout
	}
	if c.expectRev > 0 {
		r.ExpectRev = &c.expectRev
	}
	return r
}

func newCommandID() string { return "cli-" + strings.ToLower(rand.Text()) }

// changeKey carries out a command on one key and shows what has become of it.
func (a *app) changeKey(ctx context.Context, verb registry.Verb, r registry.Request) error {
	return a.withSession(func(s *session) error {
		var reply registry.KeyReply
		if err := s.do(ctx, verb, r, &reply); err != nil {
			return err
		}
		if err := a.show(&reply, keyTable(&reply)); err != nil {
			return err
		}
		return a.tellConfirmation(r.Wait, reply.Confirmation, reply.Seq)
	})
}

// text is a flag's value if the command line has it, else nothing.
func text(cmd *cobra.Command, flag string) *string {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	value := cmd.Flags().Lookup(flag).Value.String()
	return &value
}
