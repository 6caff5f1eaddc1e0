package natsapi

import (
	"strings"

	"github.com/keyfleet/keyfleet/registry"
)

// Subjects are keyfleet.cmd.<project>.<actor>.<noun>.<verb>, and for the whole fleet keyfleet.fleet.<actor>.<verb>.
const (
	subjectPrefix = "keyfleet.cmd."
	fleetPrefix   = "keyfleet.fleet."
)

func subjectOf(project, actor string, v registry.Verb) string {
	if v.IsFleetWide() {
		return fleetPrefix + actor + "." + strings.TrimPrefix(string(v), "fleet.")
	}
	return subjectPrefix + project + "." + actor + "." + string(v)
}

// addressedBy reads project and actor from a subject that subjectOf made.
func addressedBy(subject string) registry.Command {
	if rest, isFleet := strings.CutPrefix(subject, fleetPrefix); isFleet {
		actor, _, _ := strings.Cut(rest, ".")
		return registry.Command{Actor: actor}
	}
	tokens := strings.Split(strings.TrimPrefix(subject, subjectPrefix), ".")
	return registry.Command{Project: tokens[0], Actor: tokens[1]}
}

// answerable reports whether an answer may go to a reply subject. A server lets callers name any, also what they may
// not publish to themselves but the registry may: its answer would then stand in the log as a commit that nobody
// can read, or put the election's key, or be another actor's command.
func answerable(reply string) bool {
	return reply != "" && reply[0] != '$' && !strings.HasPrefix(reply, "keyfleet.")
}
