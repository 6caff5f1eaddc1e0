package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
)

// pageFlags choose a part of a listing.
type pageFlags struct {
	limit, offset   int
	orderBy, search string
}

func (p *pageFlags) addTo(cmd *cobra.Command, orders string) {
	f := cmd.Flags()
	f.IntVar(&p.limit, "limit", 100, "how many to show, 1 to 1000")
	f.IntVar(&p.offset, "offset", 0, "how many to pass over")
	f.StringVar(&p.orderBy, "order-by", "", orders+"; with a - before it, the other way round")
	f.StringVar(&p.search, "search", "", "show only what contains this text")
}

func (p *pageFlags) request() registry.Request {
	return registry.Request{Limit: p.limit, Offset: p.offset, OrderBy: p.orderBy, Search: p.search}
}

// sayRest tells people that there is more than they see.
func (a *app) sayRest(p pageFlags, shown, count int) {
	if rest := count - p.offset - shown; rest > 0 && shown > 0 {
		a.say("%d of %d shown; --offset %d goes on", shown, count, p.offset+shown)
	}
}

func (a *app) keysList() *cobra.Command {
	var page pageFlags
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the project's keys", Args: cobra.NoArgs}
	page.addTo(cmd, "name, created_at or expires_at")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withSession(func(s *session) error {
			var reply registry.KeyPage
			if err := s.do(cmd.Context(), registry.KeyList, page.request(), &reply); err != nil {
				return err
			}
			defer a.sayRest(page, len(reply.Results), reply.Count)
			return a.show(&reply, func(w io.Writer) error {
				t := table{head: []string{"NAME", "STATUS", "HINT", "EXPIRES", "DEPLOYMENTS", "DESCRIPTION"}}
				for _, k := range reply.Results {
					t.add(k.Name, string(k.Status), k.Hint, instantText(k.ExpiresAt),
						orDash(strings.Join(k.DeploymentNames, ",")), orDash(textOf(k.Description)))
				}
				return t.write(w)
			})
		})
	}
	return cmd
}

func (a *app) keysShow() *cobra.Command {
	return &cobra.Command{
		Use: "show KEY", Aliases: []string{"get"}, Short: "Show one key, by name or id", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeKey(cmd.Context(), registry.KeyGet, registry.Request{Key: args[0]})
		},
	}
}

func (a *app) keysIdentify() *cobra.Command {
	return &cobra.Command{
		Use:   "identify",
		Short: "Tell whose key it is that stands on standard input",
		Long:  "Reads a key from standard input and tells whose it is. Only its digest is sent.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := a.readKey()
			if err != nil {
				return err
			}
			if key == "" {
				return usageError("there is no key on standard input; write it there, such as echo $KEY | keyfleet keys identify")
			}
			if strings.HasPrefix(key, apikey.Prefix) && !apikey.WellFormed([]byte(key)) {
				return refusedError(registry.Invalid, "%v", apikey.ErrForm)
			}
			digest := apikey.DigestOf([]byte(key)).String()
			return a.changeKey(cmd.Context(), registry.KeyIdentify, registry.Request{Digest: digest})
		},
	}
}

func (a *app) keysHistory() *cobra.Command {
	var page pageFlags
	cmd := &cobra.Command{
		Use:   "history KEY",
		Short: "Tell what happened to a key, the newest first; a deleted one is found by its id",
		Args:  cobra.ExactArgs(1),
	}
	cmd.Flags().IntVar(&page.limit, "limit", 100, "how many events to show, 1 to 1000")
	cmd.Flags().IntVar(&page.offset, "offset", 0, "how many to pass over")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := page.request()
		r.Key = args[0]
		return a.withSession(func(s *session) error {
			var reply registry.HistoryPage
			if err := s.do(cmd.Context(), registry.KeyHistory, r, &reply); err != nil {
				return err
			}
			defer a.sayRest(page, len(reply.Results), reply.Count)
			return a.show(&reply, func(w io.Writer) error {
				t := table{head: []string{"SEQ", "TIME", "EVENT", "BY", "DETAILS"}}
				for _, e := range reply.Results {
					t.add(fmt.Sprint(e.Seq), e.Time.String(), string(e.Type), orDash(e.Actor), orDash(entryDetails(&e)))
				}
				return t.write(w)
			})
		})
	}
	return cmd
}

// keyTable shows one key to people.
func keyTable(k *registry.KeyReply) func(io.Writer) error {
	return func(w io.Writer) error {
		t := table{rows: [][]string{
			{"key", k.Name},
			{"id", k.ID},
			{"status", string(k.Status)},
			{"hint", k.Hint},
			{"deployments", orDash(strings.Join(k.DeploymentNames, ", "))},
			{"expires", instantText(k.ExpiresAt)},
			{"description", orDash(textOf(k.Description))},
			{"created", k.CreatedAt.String()},
			{"last used", orNotYet(k.LastUsedAt)},
			{"uses", strconv.FormatUint(k.Uses, 10)},
			{"revision", strconv.FormatUint(k.Rev, 10)},
			{"seq", fmt.Sprint(k.Seq)},
		}}
		if k.GraceUntil != nil {
			t.add("old secret until", k.GraceUntil.String())
		}
		if k.Role != "" {
			t.add("role", k.Role)
			t.add("scope", k.Scope)
		}
		if k.Note != "" {
			t.add("note", k.Note)
		}
		return t.write(w)
	}
}

func instantText(i *events.Instant) string {
	if i == nil {
		return "never"
	}
	return i.String()
}

func orNotYet(i *events.Instant) string {
	if i == nil {
		return "not yet"
	}
	return i.String()
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
