package main

import (
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) keysCommand() *cobra.Command {
	aKey := func(cmd *cobra.Command) *cobra.Command { return a.completesWith(cmd, first(registry.KeyList)) }
	keys := group("keys", "Create, change, rotate and revoke API keys",
		a.keysCreate(), aKey(a.keysRotate()), a.keysList(), aKey(a.keysShow()), aKey(a.keysHistory()), a.keysIdentify(),
		aKey(a.keysEdit()), aKey(a.keysExpire()),
		a.completesWith(a.keysDelete(), func(int) registry.Verb { return registry.KeyList }),
		a.keysDeployments(registry.KeyAttach, "attach", "Let a key open further deployments"),
		a.keysDeployments(registry.KeyDetach, "detach", "Stop a key from opening deployments"),
		aKey(a.keysSwitch(registry.KeyDisable, "disable", "Make a key open nothing until it is enabled")),
		aKey(a.keysSwitch(registry.KeyEnable, "enable", "Undo disable")),
	)
	return a.asClient(keys)
}

func (a *app) keysEdit() *cobra.Command {
	var change changeFlags
	var deployments []string
	cmd := &cobra.Command{
		Use:   "edit KEY",
		Short: "Change a key's name, description, deployments or expiry; the rest stays",
		Example: `  keyfleet keys edit demo-key --description 'CI of team blue' --expires 2027-01-31
  keyfleet keys edit demo-key --deployment llama --deployment whisper
  keyfleet keys edit demo-key --deployment '' --expires never`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.String("name", "", "new name")
	f.String("description", "", "new description; an empty one clears it")
	f.StringSliceVar(&deployments, "deployment", nil, "all deployments that it shall open, repeated or with commas; an empty one clears them")
	f.String("expires", "", "new expiry: a date (00:00 UTC), an RFC 3339 time or never")
	onlyOnCommandLine(cmd, "name", "description", "deployment", "expires")
	a.completesFlag(cmd, "deployment", registry.DeploymentList)
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Key, r.Description, r.ExpiresAt = args[0], text(cmd, "description"), text(cmd, "expires")
		if name := text(cmd, "name"); name != nil {
			if r.Name = *name; r.Name == "" {
				return usageError("a key cannot be without a name; leave --name out to keep it")
			}
		}
		if f.Changed("deployment") {
			r.Deployments = &deployments
		}
		if r.Name == "" && r.Description == nil && r.Deployments == nil && r.ExpiresAt == nil {
			return usageError("nothing to change: give --name, --description, --deployment or --expires")
		}
		return a.changeKey(cmd.Context(), registry.KeyEdit, r)
	}
	return cmd
}

func (a *app) keysExpire() *cobra.Command {
	var change changeFlags
	cmd := &cobra.Command{
		Use:   "expire KEY WHEN",
		Short: "Set the instant at which a key dies, or never",
		Example: `  keyfleet keys expire demo-key 2027-01-31            # at 00:00 UTC of that day
  keyfleet keys expire demo-key 2027-01-31T17:00:00Z
  keyfleet keys expire demo-key never                 # also brings back an expired key`,
		Args: cobra.ExactArgs(2),
	}
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Key, r.ExpiresAt = args[0], &args[1]
		return a.changeKey(cmd.Context(), registry.KeyExpire, r)
	}
	return cmd
}

func (a *app) keysDeployments(verb registry.Verb, use, short string) *cobra.Command {
	var change changeFlags
	cmd := &cobra.Command{Use: use + " KEY DEPLOYMENT...", Short: short, Args: cobra.MinimumNArgs(2)}
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		deployments := args[1:]
		r.Key, r.Deployments = args[0], &deployments
		return a.changeKey(cmd.Context(), verb, r)
	}
	return a.completesWith(cmd, func(given int) registry.Verb {
		if given == 0 {
			return registry.KeyList
		}
		return registry.DeploymentList
	})
}

func (a *app) keysSwitch(verb registry.Verb, use, short string) *cobra.Command {
	var change changeFlags
	cmd := &cobra.Command{Use: use + " KEY", Short: short, Args: cobra.ExactArgs(1)}
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := change.request()
		r.Key = args[0]
		return a.changeKey(cmd.Context(), verb, r)
	}
	return cmd
}
