package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/projections/proof"
	"github.com/keyfleet/keyfleet/registry"
)

// moment is a point of the log: behind an event, or at a time.
type moment struct {
	seq  events.Seq     // math.MaxUint64 where a time was given
	time events.Instant // Never where a Seq was given
}

const pointHelp = "a Seq, a date, an RFC 3339 time, or how long ago, such as 24h"

func parsePoint(what, text string) (moment, error) {
	if seq, err := strconv.ParseUint(text, 10, 63); err == nil {
		return moment{events.Seq(seq), events.Never}, nil
	}
	at, err := parseMoment(what, text, events.InstantOf(time.Now()))
	return moment{math.MaxUint64, at}, err
}

// takesIn reports whether a commit lies before the moment, at least in part.
func (m moment) takesIn(c *events.Commit) bool { return c.First <= m.seq && c.Time <= m.time }

// clock is the time at the moment, in a state as of then.
func (m moment) clock(s *history.State) events.Instant {
	if m.time.IsNever() {
		return s.Time
	}
	return m.time
}

// auditReplay reads a verified copy up to a point.
type auditReplay struct {
	*app
	file    string
	sealing string
}

func (r *auditReplay) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.file, "archive", "", "archive to read, instead of the stream")
	cmd.Flags().StringVar(&r.sealing, "sealing-key", "", "file with the registry's sealing keys; without it, what is sealed is left out")
	onlyOnCommandLine(cmd, "archive")
}

// until shows the commits up to the moment. It is refused to speak of a Seq that the log has not reached.
func (r *auditReplay) until(ctx context.Context, m moment, show func(*events.Commit) error) error {
	c, err := r.openCopy(ctx, r.file, "reading")
	if err != nil {
		return err
	}
	defer c.close()
	seen := events.Seq(0)
	_, err = c.replay(proof.Options{}, func(e events.Entry) error {
		if !m.takesIn(e.Commit) {
			return errAuditDone
		}
		seen = e.Commit.Last()
		return show(e.Commit)
	})
	switch {
	case errors.Is(err, errAuditDone):
		return nil
	case err != nil:
		return r.asRefusal(err)
	case m.seq != math.MaxUint64 && seen < m.seq:
		return refusedError(registry.NotFound, "the log ends at Seq %d", seen)
	}
	return nil
}

func (a *app) auditState() *cobra.Command {
	r := auditReplay{app: a}
	var at, project string
	cmd := &cobra.Command{
		Use:   "state --at WHEN",
		Short: "Show all keys and deployments as they were at a time, or behind an event",
		Long: `Replays the log up to a point, the stream or an archive, and shows what was then: keys, what they opened, when they
expired. It holds all keys of then in memory, some hundred bytes each.`,
		Example: `  keyfleet audit state --at 2027-01-31T12:00:00Z
  keyfleet audit state --at 4711 --archive log.kfa --json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&at, "at", "", pointHelp+" (default: now)")
	cmd.Flags().StringVar(&project, "project", "", "only this project")
	onlyOnCommandLine(cmd, "at", "project")
	r.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m, err := parsePoint("at", at)
		if err != nil {
			return err
		}
		ring, err := readSealingKeys(r.sealing)
		if err != nil {
			return err
		}
		s := history.NewState(ring)
		if err := r.until(cmd.Context(), m, func(c *events.Commit) error { return s.Fold(c, m.seq) }); err != nil {
			return err
		}
		view := viewState(s, m.clock(s), project)
		if slices.ContainsFunc(view.Keys, func(k keyThen) bool { return k.Name == "" }) {
			a.say("some keys' names are sealed: --sealing-key opens them")
		}
		return a.show(view, view.write)
	}
	return cmd
}

// stateView is a state as people and programs see it.
type stateView struct {
	Seq         events.Seq       `json:"seq"`
	At          events.Instant   `json:"at"`
	Keys        []keyThen        `json:"keys"`
	Deployments []deploymentThen `json:"deployments"`
}

type keyThen struct {
	Project     string         `json:"project"`
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Status      string         `json:"status"`
	Opens       []string       `json:"deployment_names"`
	ExpiresAt   events.Instant `json:"expires_at"`
	Description string         `json:"description,omitempty"`
	Hint        string         `json:"hint,omitempty"`
	Rev         uint64         `json:"rev"`
}

type deploymentThen struct {
	Project  string `json:"project"`
	ID       string `json:"id"`
	Name     string `json:"name"`
	Upstream string `json:"upstream,omitempty"`
	Host     string `json:"host,omitempty"`
}

func viewState(s *history.State, now events.Instant, project string) *stateView {
	v := &stateView{Seq: s.Seq, At: now, Keys: []keyThen{}, Deployments: []deploymentThen{}}
	for _, k := range s.SortedKeys() {
		if project == "" || k.Project == project {
			v.Keys = append(v.Keys, keyThen{k.Project, k.ID.String(), k.Name, history.Status(&k, now), s.Opens(&k), k.ExpiresAt, k.Description, k.Hint, k.Rev})
		}
	}
	for _, d := range s.SortedDeployments() {
		if project == "" || d.Project == project {
			v.Deployments = append(v.Deployments, deploymentThen{d.Project, d.ID.String(), d.Name, d.Upstream, d.Host})
		}
	}
	return v
}

func (v *stateView) write(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "at %s, behind Seq %d: %d keys, %d deployments\n", v.At, v.Seq, len(v.Keys), len(v.Deployments)); err != nil {
		return err
	}
	t := table{head: []string{"PROJECT", "KEY", "STATUS", "EXPIRES", "OPENS", "DESCRIPTION"}}
	for _, k := range v.Keys {
		t.add(k.Project, orDash(k.Name), k.Status, k.ExpiresAt.String(), orDash(strings.Join(k.Opens, ",")), orDash(k.Description))
	}
	return t.write(w)
}

func (a *app) auditDiff() *cobra.Command {
	r := auditReplay{app: a}
	cmd := &cobra.Command{
		Use:   "diff FROM TO",
		Short: "Tell in words what changed between two points of the log",
		Long:  "Each point is " + pointHelp + ". Keys that expired in between are told too; what came and went again is not.",
		Example: `  keyfleet audit diff 24h 0s
  keyfleet audit diff 4711 4800 --archive log.kfa`,
		Args: cobra.ExactArgs(2),
	}
	r.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := parsePoint("FROM", args[0])
		if err != nil {
			return err
		}
		to, err := parsePoint("TO", args[1])
		if err != nil {
			return err
		}
		ring, err := readSealingKeys(r.sealing)
		if err != nil {
			return err
		}
		before, after := history.NewState(ring), history.NewState(ring)
		if err := r.until(cmd.Context(), from, func(c *events.Commit) error { return before.Fold(c, from.seq) }); err != nil {
			return err
		}
		if err := r.until(cmd.Context(), to, func(c *events.Commit) error { return after.Fold(c, to.seq) }); err != nil {
			return err
		}
		if after.Seq < before.Seq {
			return usageError("the first point lies behind the second: %s is Seq %d, %s is Seq %d", args[0], before.Seq, args[1], after.Seq)
		}
		changes := history.Diff(before, after, from.clock(before), to.clock(after))
		return a.show(changes, func(w io.Writer) error { return writeChanges(w, changes, before, after) })
	}
	return cmd
}

func writeChanges(w io.Writer, changes []history.Change, before, after *history.State) error {
	if _, err := fmt.Fprintf(w, "from Seq %d to Seq %d: %d keys and deployments changed\n", before.Seq, after.Seq, len(changes)); err != nil {
		return err
	}
	for _, c := range changes {
		if _, err := fmt.Fprintf(w, "%s %s in %s: %s\n", c.Kind, clean(orDash(c.Name)), clean(c.Project), clean(strings.Join(c.What, "; "))); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) auditExplain() *cobra.Command {
	r := auditReplay{app: a}
	var q history.Question
	var at string
	var applied uint64
	cmd := &cobra.Command{
		Use:   "explain --key KEY --deployment D --at WHEN",
		Short: "Tell whether a key opened a deployment at some time, and which events made it so",
		Long: `Decides as every verifier does, with the same function, on the log as it was. With --applied it decides on what one verifier had
applied then: its answer's Keyfleet-Seq. Presented is the secret that the key had at the time.`,
		Example: `  keyfleet audit explain --key night-batch --deployment echo-model --at 2027-01-31T12:00:00Z
  keyfleet audit explain --key night-batch --deployment echo-model --at 2027-01-31T12:00:00Z --applied 4711`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&q.Key, "key", "", "id of the key, or a name that it bore (required)")
	f.StringVar(&q.Deployment, "deployment", "", "name or id of the deployment (required)")
	f.StringVar(&q.Project, "project", defaultProject, "project of both")
	f.StringVar(&at, "at", "", pointHelp+" (default: now)")
	f.Uint64Var(&applied, "applied", 0, "Seq up to which the verifier had applied the log (default: all up to then)")
	onlyOnCommandLine(cmd, "key", "deployment", "project", "at", "applied")
	r.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if q.Key == "" || q.Deployment == "" {
			return usageError("say which --key and which --deployment")
		}
		m, err := parsePoint("at", at)
		if err != nil {
			return err
		}
		answer, err := r.explain(cmd.Context(), q, m, events.Seq(applied))
		if err != nil {
			return err
		}
		return a.show(answer, func(w io.Writer) error { return writeExplanation(w, q, &answer) })
	}
	return cmd
}

func (r *auditReplay) explain(ctx context.Context, q history.Question, m moment, applied events.Seq) (history.Explanation, error) {
	ring, err := readSealingKeys(r.sealing)
	if err != nil {
		return history.Explanation{}, err
	}
	x, then := history.NewExplainer(q, ring), events.Instant(0)
	read := m
	if applied > 0 {
		read.seq = min(m.seq, applied)
	}
	err = r.until(ctx, read, func(c *events.Commit) error {
		then = c.Time
		return x.Search(c, read.seq)
	})
	if err != nil {
		return history.Explanation{}, err
	}
	if err := r.until(ctx, read, func(c *events.Commit) error { return x.Collect(c, read.seq) }); err != nil {
		return history.Explanation{}, err
	}
	if !m.time.IsNever() {
		then = m.time
	}
	return x.Explain(then), nil
}

func writeExplanation(w io.Writer, q history.Question, x *history.Explanation) error {
	verdict := "would have been refused: " + x.Reason.String()
	if x.Reason == projections.Allowed {
		verdict = "would have been allowed"
	}
	if _, err := fmt.Fprintf(w, "%s on %s in %s at %s, as of Seq %d: %s\n", clean(q.Key), clean(q.Deployment), clean(q.Project), x.Time, x.Seq, verdict); err != nil {
		return err
	}
	if x.DecidedBy != nil {
		if _, err := fmt.Fprintf(w, "decided by Seq %d: %s by %s at %s\n", x.DecidedBy.Seq, x.DecidedBy.Type, clean(orDash(x.DecidedBy.Actor)), x.DecidedBy.Time); err != nil {
			return err
		}
	}
	t := table{head: []string{"SEQ", "TIME", "EVENT", "OF", "BY", "DETAILS"}}
	named := names{}
	for _, e := range x.Events {
		named.learn(&e)
		t.add(fmt.Sprint(e.Seq), e.Time.String(), string(e.Type), named.of(e.Subject), orDash(e.Actor), orDash(named.details(&e)))
	}
	return t.write(w)
}
