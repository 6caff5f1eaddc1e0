package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) keysCreate() *cobra.Command {
	var change changeFlags
	var deployments []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a key and print its secret, once",
		Long: `Creates a key. The secret is generated here: only its digest and a hint are sent, so that nobody else ever
has it. It is printed once, on standard output; everything else for people goes to standard error.`,
		Example: `  keyfleet keys create demo-key --deployment echo-model --expires 2027-01-31
  KEY=$(keyfleet keys create demo-key --deployment echo-model)`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringSliceVar(&deployments, "deployment", nil, "deployment that the key opens, repeated or with commas")
	a.completesFlag(cmd, "deployment", registry.DeploymentList)
	f.String("expires", "", "when it dies: a date (00:00 UTC), an RFC 3339 time or never (the default)")
	f.String("description", "", "what the key is for")
	change.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Name, r.ExpiresAt, r.Description = args[0], text(cmd, "expires"), text(cmd, "description")
		if len(deployments) > 0 {
			r.Deployments = &deployments
		}
		err := a.issue(cmd.Context(), registry.KeyCreate, r)
		return orphaned(err, "the key may exist without anybody knowing its secret: look with keyfleet keys show %s, and delete it if it is there", args[0])
	}
	return cmd
}

func (a *app) keysRotate() *cobra.Command {
	var change changeFlags
	var grace string
	cmd := &cobra.Command{
		Use:   "rotate KEY",
		Short: "Give a key a new secret and print it, once; the old one opens for a grace period",
		Args:  cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&grace, "grace", "24h", "how long the old secret still opens: 0 (dead at once) to 30d")
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Key, r.Grace = args[0], &grace
		err := a.issue(cmd.Context(), registry.KeyRotate, r)
		return orphaned(err, "key %s may have a new secret that nobody knows: rotate it again", args[0])
	}
	return cmd
}

// issue carries out a command that gives a key a new secret. The secret is made here and shown here.
func (a *app) issue(ctx context.Context, verb registry.Verb, r registry.Request) error {
	secret := apikey.Generate()
	r.Digest, r.Hint = secret.Digest().String(), secret.Hint()
	return a.withSession(func(s *session) error {
		var reply registry.KeyReply
		if err := s.do(ctx, verb, r, &reply); err != nil {
			return err
		}
		reply.Secret = secret.Reveal()
		err := a.show(&reply, func(w io.Writer) error {
			if err := keyTable(&reply)(a.err); err != nil {
				return err
			}
			a.say("\nThe secret stands on standard output, this once: only its digest is kept.\n")
			_, err := fmt.Fprintln(w, reply.Secret)
			return err
		})
		if err != nil {
			return fmt.Errorf("the secret of key %s could not be written out and is lost; rotate the key: %w", reply.Name, err)
		}
		return a.tellConfirmation(r.Wait, reply.Confirmation, reply.Seq)
	})
}

// orphaned adds what to do where it is unknown whether a secret that is gone was recorded.
func orphaned(err error, format string, args ...any) error {
	var r *registry.Refusal
	if errors.As(err, &r) && r.Code == registry.Unavailable {
		return unavailableError("%s; %s", strings.TrimSuffix(r.Message, "."), fmt.Sprintf(format, args...))
	}
	return err
}

// maxKeyInput is more than any key has: a wrong file on standard input is not read whole.
const maxKeyInput = 64 << 10

// readKey reads a key from standard input, without showing it.
func (a *app) readKey() (string, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		a.say("Paste the key; it is not shown:")
		key, err := term.ReadPassword(int(f.Fd()))
		if err != nil {
			return "", fmt.Errorf("read the key: %w", err)
		}
		return strings.TrimSpace(string(key)), nil
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, maxKeyInput)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the key: %w", err)
	}
	return strings.TrimSpace(line), nil
}
