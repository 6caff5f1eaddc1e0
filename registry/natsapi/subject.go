package natsapi

import (
	"strings"

	"github.com/keyfleet/keyfleet/registry"
)

// Subjects are keyfleet.cmd.<project>.<actor>.<noun>.<verb>.
const subjectPrefix = "keyfleet.cmd."

func subjectOf(project, actor string, v registry.Verb) string {
	return subjectPrefix + project + "." + actor + "." + string(v)
}

// answerable reports whether an answer may go to a reply subject. A server lets callers name any, also what they may
// not publish to themselves but the registry may: its answer would then stand in the log as a commit that nobody
// can read, or put the election's key, or be another actor's command.
func answerable(reply string) bool {
	return reply != "" && reply[0] != '$' && !strings.HasPrefix(reply, "keyfleet.")
}
