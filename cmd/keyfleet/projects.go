package main

import (
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) projectsCommand() *cobra.Command {
	return a.asClient(group("projects", "List projects", a.projectsList()))
}

func (a *app) projectsList() *cobra.Command {
	var page pageFlags
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the projects that you may see, which for now is your own",
		Args:    cobra.NoArgs,
	}
	page.addTo(cmd, "name")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withSession(func(s *session) error {
			var reply registry.ProjectPage
			if err := s.do(cmd.Context(), registry.ProjectList, page.request(), &reply); err != nil {
				return err
			}
			defer a.sayRest(page, len(reply.Results), reply.Count)
			return a.show(&reply, func(w io.Writer) error {
				t := table{head: []string{"NAME", "KEYS", "DEPLOYMENTS", "CREATED"}}
				for _, p := range reply.Results {
					t.add(p.Name, strconv.Itoa(p.Keys), strconv.Itoa(p.Deployments), p.CreatedAt.String())
				}
				return t.write(w)
			})
		})
	}
	return cmd
}
