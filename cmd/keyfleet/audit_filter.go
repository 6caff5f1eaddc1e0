package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/registry"
)

// auditFilter chooses events. Zero fields choose all.
type auditFilter struct {
	project, key, deployment, actor string
	types                           []string
	sinceText, untilText            string
	since, until                    events.Instant
	fromSeq, toSeq                  uint64
}

func (f *auditFilter) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "only events of this key: its id, or a name that it had at the time")
	flags.StringVar(&f.deployment, "deployment", "", "only events of this deployment, attachments included: its id or name")
	flags.StringVar(&f.actor, "actor", "", "only what this actor did")
	flags.StringVar(&f.project, "project", "", "only events of this project")
	flags.StringSliceVar(&f.types, "type", nil, "only events of these types, such as deleted,disabled")
	flags.StringVar(&f.sinceText, "since", "", "only from this time on: a date, an RFC 3339 time, or how long ago, such as 24h")
	flags.StringVar(&f.untilText, "until", "", "only before this time")
	flags.Uint64Var(&f.fromSeq, "from-seq", 0, "only from this Seq on")
	flags.Uint64Var(&f.toSeq, "to-seq", 0, "only up to this Seq")
	// A variable that is set for other commands must not hide events from an audit.
	onlyOnCommandLine(cmd, "key", "deployment", "actor", "project", "type", "since", "until", "from-seq", "to-seq")
}

func (f *auditFilter) parse() (err error) {
	if f.since, err = parseMoment("since", f.sinceText, 0); err != nil {
		return err
	}
	if f.until, err = parseMoment("until", f.untilText, events.Never); err != nil {
		return err
	}
	for _, t := range f.types {
		if !slices.Contains(eventTypes, events.Type(t)) {
			return usageError("--type: there is no event type %q; the types are %s", t, joinTypes())
		}
	}
	return nil
}

func parseMoment(flag, text string, otherwise events.Instant) (events.Instant, error) {
	if text == "" {
		return otherwise, nil
	}
	if ago, err := registry.ParseDuration(text); err == nil {
		return events.InstantOf(time.Now().Add(-ago)), nil
	}
	i, err := events.ParseInstant(text)
	if err != nil {
		return 0, usageError("--%s: %q is no time; give a date, an RFC 3339 time, or how long ago, such as 24h or 7d", flag, text)
	}
	return i, nil
}

// over reports whether nothing behind e can be wanted.
func (f *auditFilter) over(e *history.Entry) bool {
	return (f.toSeq > 0 && uint64(e.Seq) > f.toSeq) || e.Time >= f.until
}

func (f *auditFilter) wants(e *history.Entry, names map[string]string) bool {
	switch {
	case uint64(e.Seq) < f.fromSeq, e.Time < f.since,
		f.project != "" && e.Project != f.project,
		f.actor != "" && e.Actor != f.actor,
		len(f.types) > 0 && !slices.Contains(f.types, string(e.Type)),
		f.key != "" && !isSubject(e, f.key, "key_", names),
		f.deployment != "" && !f.concernsDeployment(e, names):
		return false
	}
	return true
}

// isSubject reports whether an event is of what an id or a name stands for. Names are those of the time.
func isSubject(e *history.Entry, wanted, prefix string, names map[string]string) bool {
	return strings.HasPrefix(e.Subject, prefix) && (e.Subject == wanted || names[e.Subject] == wanted)
}

func (f *auditFilter) concernsDeployment(e *history.Entry, names map[string]string) bool {
	return isSubject(e, f.deployment, "dep_", names) ||
		slices.ContainsFunc(e.Deployments, func(id string) bool { return id == f.deployment || names[id] == f.deployment })
}

// eventTypes are those of schema 1.
var eventTypes = []events.Type{
	events.TypeLogOpened, events.TypeTermOpened, events.TypeSchemaRaised, events.TypeSettingChanged,
	events.TypeSigningKeyAdded, events.TypeSigningKeyRetired, events.TypeProjectOpened,
	events.TypeVerifierRegistered, events.TypeVerifierLeft,
	events.TypeCreated, events.TypeEdited, events.TypeAttached, events.TypeDetached, events.TypeExpiryChanged,
	events.TypeExpired, events.TypeDisabled, events.TypeEnabled, events.TypeRotated, events.TypeGraceEnded, events.TypeDeleted,
	events.TypeDeploymentRegistered, events.TypeDeploymentEdited, events.TypeDeploymentRemoved,
}

func joinTypes() string {
	names := make([]string, len(eventTypes))
	for i, t := range eventTypes {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

// entryDetails is what an event states, in one line: everything but the columns that all events have.
func entryDetails(e *history.Entry) string {
	var parts []string
	say := func(what, value string) {
		if value != "" {
			parts = append(parts, what+"="+value)
		}
	}
	say("name", e.Name)
	if e.Description != nil {
		say("description", fmt.Sprintf("%q", *e.Description))
	}
	say("hint", e.Hint)
	say("deployments", strings.Join(e.Deployments, ","))
	if e.ExpiresAt != nil {
		say("expires", e.ExpiresAt.String())
	}
	if e.GraceUntil != nil {
		say("grace", e.GraceUntil.String())
	}
	for _, name := range slices.SortedFunc(maps.Keys(e.Details), cmp.Compare) {
		say(name, e.Details[name])
	}
	say("reason", e.Reason)
	if e.Sealed {
		parts = append(parts, "(sealed)")
	}
	return strings.Join(parts, " ")
}

// names of keys, deployments and verifiers, by id, as the log has given them so far.
type names map[string]string

func (n names) learn(e *history.Entry) {
	if e.Subject != "" && e.Name != "" {
		n[e.Subject] = e.Name
	}
}

// of is the name, or the id of what has none.
func (n names) of(id string) string { return cmp.Or(n[id], id) }

// details names the deployments.
func (n names) details(e *history.Entry) string {
	named := *e
	named.Deployments = make([]string, len(e.Deployments))
	for i, id := range e.Deployments {
		named.Deployments[i] = n.of(id)
	}
	return strings.TrimSpace(entryDetails(&named))
}
