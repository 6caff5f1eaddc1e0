package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const environmentPrefix = "KEYFLEET_"

// environmentName is the variable that says the same as a flag.
func environmentName(flag string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// noEnvironment marks flags that a variable must not say, because it would say it to every run: a command's id, and
// what an edit changes, where leaving a flag out means leaving that part of the key alone.
const noEnvironment = "keyfleet: not from the environment"

func onlyOnCommandLine(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := cmd.Flags().SetAnnotation(name, noEnvironment, nil); err != nil {
			panic(err) // a flag that does not exist
		}
	}
}

func hasEnvironment(f *pflag.Flag) bool {
	_, marked := f.Annotations[noEnvironment]
	return !marked && f.Name != "help"
}

// flagsFromEnvironment sets the flags that the command line left out. An empty variable is none.
func flagsFromEnvironment(cmd *cobra.Command, lookup func(string) string) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || !hasEnvironment(f) {
			return
		}
		value := lookup(environmentName(f.Name))
		if value == "" {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil && failed == nil {
			failed = usageError("%s: %v", environmentName(f.Name), err)
		}
	})
	return failed
}

// nameEnvironment shows in every flag's help which variable says the same.
func nameEnvironment(cmd *cobra.Command) {
	name := func(f *pflag.Flag) {
		if hasEnvironment(f) {
			f.Usage += " [$" + environmentName(f.Name) + "]"
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(name)
	cmd.PersistentFlags().VisitAll(name)
	for _, sub := range cmd.Commands() {
		nameEnvironment(sub)
	}
}
