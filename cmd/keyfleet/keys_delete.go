package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) keysDelete() *cobra.Command {
	var change changeFlags
	cmd := &cobra.Command{
		Use:     "delete KEY...",
		Aliases: []string{"rm"},
		Short:   "Revoke keys for good; - reads names or ids from standard input",
		Example: `  keyfleet keys delete demo-key
  keyfleet keys list --json | jq -r '.results[].name' | keyfleet keys delete -`,
		Args: cobra.MinimumNArgs(1),
	}
	change.addTo(cmd)
	change.addRevisionTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		names, err := a.namesFrom(args)
		if err != nil {
			return err
		}
		if len(names) > 1 && (change.commandID != "" || change.expectRev != 0) {
			return usageError("--command-id and --expect-rev go with one key, not with %d", len(names))
		}
		return a.withSession(func(s *session) error {
			return a.deleteKeys(cmd.Context(), s, names, change)
		})
	}
	return cmd
}

// namesFrom gives each name once, those on standard input in the place of -.
func (a *app) namesFrom(args []string) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		if name = strings.TrimSpace(name); name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, arg := range args {
		if arg != "-" {
			add(arg)
			continue
		}
		lines := bufio.NewScanner(a.in)
		for lines.Scan() {
			add(lines.Text())
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read names: %w", err)
		}
	}
	return names, nil
}

// deletionsAtOnce is how many commands are under way together: the registry makes one commit of them.
const deletionsAtOnce = 64

// deleteKeys deletes all, whatever becomes of single ones. The last is sent when the others are recorded, and is
// the only one to wait: whoever has applied it has applied all.
func (a *app) deleteKeys(ctx context.Context, s *session, names []string, change changeFlags) error {
	if len(names) == 0 {
		a.say("no names, nothing to delete")
		return nil
	}
	replies := make([]registry.KeyReply, len(names))
	faults := make([]error, len(names))
	remove := func(i int, wait string) {
		r := change.request()
		r.Key, r.Wait = names[i], wait
		faults[i] = s.do(ctx, registry.KeyDelete, r, &replies[i])
	}
	last := len(names) - 1
	progress := a.progress(len(names), "deleting")
	var under sync.WaitGroup
	slots := make(chan struct{}, deletionsAtOnce)
	for i := range last {
		slots <- struct{}{}
		under.Go(func() {
			remove(i, registry.WaitRecorded)
			_ = progress.Add(1)
			<-slots
		})
	}
	under.Wait()
	remove(last, change.wait)
	for i := range last { // what is known of the last is true of all before it
		if faults[i] == nil && faults[last] == nil {
			replies[i].Confirmation = replies[last].Confirmation
		}
	}
	_ = progress.Finish()
	return a.tellDeletions(names, replies, faults, change.wait)
}

func (a *app) tellDeletions(names []string, replies []registry.KeyReply, faults []error, wait string) error {
	status := statusDone
	for i, reply := range replies {
		if faults[i] != nil {
			f := *failureOf(runError{faults[i]})
			if len(names) == 1 {
				return &f
			}
			f.message = names[i] + ": " + f.message
			status = max(status, a.report(&f))
			continue
		}
		err := a.show(&reply, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "deleted %s at Seq %d\n", clean(reply.Name), reply.Seq)
			return err
		})
		if err != nil {
			return err
		}
	}
	last := len(names) - 1
	switch {
	case status != statusDone && wait == registry.WaitConfirmed && faults[last] != nil:
		a.say("the deletions above are recorded; nothing was waited for, because the last one failed")
		return silent(status)
	case status != statusDone:
		return silent(status)
	default:
		return a.tellConfirmation(wait, replies[last].Confirmation, replies[last].Seq)
	}
}

// progress is a bar for people who watch long work.
func (a *app) progress(steps int, what string) *progressbar.ProgressBar {
	f, ok := a.err.(*os.File)
	if a.json || !ok || steps < 100 || !term.IsTerminal(int(f.Fd())) {
		return progressbar.DefaultSilent(int64(steps))
	}
	return progressbar.NewOptions(steps, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(f),
		progressbar.OptionClearOnFinish(), progressbar.OptionShowCount())
}
