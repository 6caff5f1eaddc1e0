package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) deploymentsCommand() *cobra.Command {
	aDeployment := func(cmd *cobra.Command) *cobra.Command { return a.completesWith(cmd, first(registry.DeploymentList)) }
	return a.asClient(group("deployments", "Register, change and remove the deployments that keys open",
		a.deploymentsRegister(), aDeployment(a.deploymentsEdit()), a.deploymentsList(),
		aDeployment(a.deploymentsShow()), aDeployment(a.deploymentsRemove())))
}

func (a *app) deploymentsRegister() *cobra.Command {
	var change changeFlags
	cmd := &cobra.Command{
		Use:     "register NAME",
		Short:   "Register a deployment, so that keys can open it",
		Example: `  keyfleet deployments register llama --upstream http://127.0.0.1:8000`,
		Args:    cobra.ExactArgs(1),
	}
	addressFlags(cmd)
	change.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Name, r.Upstream, r.Host = args[0], text(cmd, "upstream"), text(cmd, "host")
		return a.changeDeployment(cmd.Context(), registry.DeploymentRegister, r)
	}
	return cmd
}

func (a *app) deploymentsEdit() *cobra.Command {
	var change changeFlags
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change where a deployment's requests go; the rest stays",
		Args:  cobra.ExactArgs(1),
	}
	addressFlags(cmd)
	onlyOnCommandLine(cmd, "upstream", "host")
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Name, r.Upstream, r.Host = args[0], text(cmd, "upstream"), text(cmd, "host")
		if r.Upstream == nil && r.Host == nil {
			return usageError("nothing to change: give --upstream or --host")
		}
		return a.changeDeployment(cmd.Context(), registry.DeploymentEdit, r)
	}
	return cmd
}

func addressFlags(cmd *cobra.Command) {
	cmd.Flags().String("upstream", "", "http:// or https:// URL that gateways forward to; empty for none")
	cmd.Flags().String("host", "", "host name under which gateways serve it, beside /NAME/; empty for none")
}

func (a *app) deploymentsRemove() *cobra.Command {
	var change changeFlags
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Aliases: []string{"rm"},
		Short:   "Remove a deployment: no key opens it any more, also if it is registered again",
		Args:    cobra.ExactArgs(1),
	}
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Name = args[0]
		return a.changeDeployment(cmd.Context(), registry.DeploymentRemove, r)
	}
	return cmd
}

func (a *app) deploymentsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Aliases: []string{"get"}, Short: "Show one deployment and the keys that open it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeDeployment(cmd.Context(), registry.DeploymentGet, registry.Request{Name: args[0]})
		},
	}
}

func (a *app) deploymentsList() *cobra.Command {
	var page pageFlags
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the project's deployments", Args: cobra.NoArgs}
	page.addTo(cmd, "name")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withSession(func(s *session) error {
			var reply registry.DeploymentPage
			if err := s.do(cmd.Context(), registry.DeploymentList, page.request(), &reply); err != nil {
				return err
			}
			defer a.sayRest(page, len(reply.Results), reply.Count)
			return a.show(&reply, func(w io.Writer) error {
				t := table{head: []string{"NAME", "UPSTREAM", "HOST", "CREATED"}}
				for _, d := range reply.Results {
					t.add(d.Name, orDash(d.Upstream), orDash(d.Host), d.CreatedAt.String())
				}
				return t.write(w)
			})
		})
	}
	return cmd
}

// changeDeployment carries out a command on one deployment and shows what has become of it.
func (a *app) changeDeployment(ctx context.Context, verb registry.Verb, r registry.Request) error {
	return a.withSession(func(s *session) error {
		var reply registry.DeploymentReply
		if err := s.do(ctx, verb, r, &reply); err != nil {
			return err
		}
		if err := a.show(&reply, deploymentTable(&reply, verb)); err != nil {
			return err
		}
		return a.tellConfirmation(r.Wait, reply.Confirmation, reply.Seq)
	})
}

func deploymentTable(d *registry.DeploymentReply, verb registry.Verb) func(io.Writer) error {
	return func(w io.Writer) error {
		if verb == registry.DeploymentRemove {
			_, err := fmt.Fprintf(w, "removed %s at Seq %d\n", clean(d.Name), d.Seq)
			return err
		}
		t := table{rows: [][]string{
			{"deployment", d.Name},
			{"id", d.ID},
			{"upstream", orDash(d.Upstream)},
			{"host", orDash(d.Host)},
			{"created", d.CreatedAt.String()},
			{"revision", strconv.FormatUint(d.Rev, 10)},
			{"seq", fmt.Sprint(d.Seq)},
		}}
		if verb == registry.DeploymentGet {
			t.add("keys", orDash(strings.Join(d.Keys, ", ")))
		}
		if d.Note != "" {
			t.add("note", d.Note)
		}
		return t.write(w)
	}
}
