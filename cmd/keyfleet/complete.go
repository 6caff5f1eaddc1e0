package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/registry"
)

// completeTimeout is how long a shell may be kept waiting for names.
const completeTimeout = time.Second

// completesWith has the shell complete a command's arguments by names that the registry knows. words gives the
// listing to complete the next argument from, by how many there are; an empty one ends it.
func (a *app) completesWith(cmd *cobra.Command, words func(given int) registry.Verb) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return a.names(cmd, words(len(args)), begun), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func (a *app) completesFlag(cmd *cobra.Command, flag string, listing registry.Verb) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return a.names(cmd, listing, begun), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // a flag that does not exist
	}
}

// names that begin as given. Whatever goes wrong, the shell completes nothing.
func (a *app) names(cmd *cobra.Command, listing registry.Verb, begun string) (names []string) {
	if listing == "" || flagsFromEnvironment(cmd, os.Getenv) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	_ = a.withSession(func(s *session) error {
		var page struct{ Results []struct{ Name string } }
		err := s.do(ctx, listing, registry.Request{Search: begun, Limit: 1000}, &page)
		for _, found := range page.Results {
			names = append(names, found.Name)
		}
		return err
	})
	return names
}

// first completes one argument, and nothing behind it.
func first(listing registry.Verb) func(int) registry.Verb {
	return func(given int) registry.Verb {
		if given > 0 {
			return ""
		}
		return listing
	}
}
