package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// app is one run of the binary.
type app struct {
	streams
	json   bool
	client clientFlags
}

// run carries out a command line and gives its exit status.
func run(ctx context.Context, args []string, std streams) int {
	a := &app{streams: std, json: asksForJSON(args)}
	root := a.rootCommand()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		return a.report(err)
	}
	return statusDone
}

// asksForJSON looks ahead, for errors that are met before the flags are read.
func asksForJSON(args []string) bool {
	asked, _ := strconv.ParseBool(os.Getenv(environmentName("json")))
	return asked || slices.Contains(args, "--json")
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "keyfleet",
		Short: "An API-key registry with a fleet of edge verifiers",
		Long: `Keyfleet keeps API keys in an event log and answers "may this key open this deployment?" at the edge.

To see it work: keyfleet dev

Exit status: 0 done, 1 refused, 2 usage, 3 unavailable or recorded but not confirmed.
Every flag can be given by the environment as well: --nats as KEYFLEET_NATS, --log-level as KEYFLEET_LOG_LEVEL.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return flagsFromEnvironment(cmd, os.Getenv) },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().BoolVar(&a.json, "json", a.json, "write JSON, on standard error too")
	root.AddCommand(
		a.devCommand(), a.initCommand(), a.registryCommand(), a.verifierCommand(), a.gatewayCommand(),
		a.keysCommand(), a.deploymentsCommand(), a.projectsCommand(),
		a.checkCommand(), a.fleetCommand(), a.auditCommand(), a.deployCommand(), a.versionCommand(),
	)
	nameEnvironment(root)
	markRunErrors(root)
	return root
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short}
	g.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError("say what to do with %s: %s", cmd.Name(), strings.Join(namesOf(commands), ", "))
		}
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			return usageError("%s has no command %q; did you mean %s?", cmd.CommandPath(), args[0], strings.Join(like, " or "))
		}
		return usageError("%s has no command %q; there are %s", cmd.CommandPath(), args[0], strings.Join(namesOf(commands), ", "))
	}
	g.SuggestionsMinimumDistance = 2
	g.AddCommand(commands...)
	return g
}

func namesOf(commands []*cobra.Command) []string {
	names := make([]string, len(commands))
	for i, c := range commands {
		names[i] = c.Name()
	}
	return names
}

// markRunErrors lets report tell what went wrong in carrying out a command from a command line
// that makes no sense, which cobra finds before.
func markRunErrors(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return runError{err}
			}
			return nil
		}
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError("%v; usage: %s", err, cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		markRunErrors(sub)
	}
}
