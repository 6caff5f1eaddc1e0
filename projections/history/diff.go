package history

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// Change is what is different about one key or deployment at a later point, in words.
type Change struct {
	Project string   `json:"project"`
	Kind    string   `json:"kind"` // key or deployment
	ID      string   `json:"id"`
	Name    string   `json:"name"` // that it has now, or had last
	What    []string `json:"what"`
}

// Diff tells what changed from one state to a later one, each seen at an instant: a key that died in between did so
// without an event. What came and went in between is not seen.
func Diff(a, b *State, nowA, nowB events.Instant) []Change {
	changes := []Change{}
	for _, k := range a.SortedKeys() {
		if _, lives := b.Keys[k.ID]; !lives {
			changes = append(changes, Change{k.Project, "key", k.ID.String(), k.Name, []string{"deleted"}})
		}
	}
	for _, k := range b.SortedKeys() {
		what := []string{fmt.Sprintf("created by %s: opens %s, expires %s", orNobody(k.CreatedBy), listed(b.Opens(&k)), k.ExpiresAt)}
		if old, lived := a.Keys[k.ID]; lived {
			what = diffKeys(a, b, &old, &k, nowA, nowB)
		} else if status := Status(&k, nowB); status != "active" {
			what = append(what, "is "+status)
		}
		if len(what) > 0 {
			changes = append(changes, Change{k.Project, "key", k.ID.String(), k.Name, what})
		}
	}
	return append(changes, diffDeployments(a, b)...)
}

func diffKeys(a, b *State, old, k *projections.Key, nowA, nowB events.Instant) (what []string) {
	say := func(differs bool, format string, args ...any) {
		if differs {
			what = append(what, fmt.Sprintf(format, args...))
		}
	}
	say(old.Name != k.Name, "renamed from %s to %s", old.Name, k.Name)
	say(old.Description != k.Description, "description is %q instead of %q", k.Description, old.Description)
	had, has := a.Opens(old), b.Opens(k)
	gained, lost := minus(has, had), minus(had, has)
	say(len(gained) > 0, "opens %s", strings.Join(gained, ", "))
	say(len(lost) > 0, "opens %s no longer", strings.Join(lost, ", "))
	say(old.ExpiresAt != k.ExpiresAt, "expires %s instead of %s", k.ExpiresAt, old.ExpiresAt)
	say(old.Digest != k.Digest, "has a new secret")
	say(k.Grace.Until > nowB && k.Grace != old.Grace, "the secret before opens until %s", k.Grace.Until)
	was, is := Status(old, nowA), Status(k, nowB)
	say(was != is, "is %s, was %s", is, was)
	return what
}

func diffDeployments(a, b *State) (changes []Change) {
	for _, d := range a.SortedDeployments() {
		if _, stays := b.Deployments[d.ID]; !stays {
			changes = append(changes, Change{d.Project, "deployment", d.ID.String(), d.Name, []string{"removed: no key opens it any more"}})
		}
	}
	for _, d := range b.SortedDeployments() {
		old, stood := a.Deployments[d.ID]
		switch {
		case !stood:
			changes = append(changes, Change{d.Project, "deployment", d.ID.String(), d.Name, []string{"registered"}})
		case old.Upstream != d.Upstream || old.Host != d.Host:
			what := fmt.Sprintf("leads to %q as %q instead of %q as %q", d.Upstream, d.Host, old.Upstream, old.Host)
			changes = append(changes, Change{d.Project, "deployment", d.ID.String(), d.Name, []string{what}})
		}
	}
	return changes
}

// minus is what of a is not in b. Both are sorted.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool {
		_, found := slices.BinarySearch(b, s)
		return found
	})
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

func orNobody(actor string) string {
	if actor == "" {
		return "somebody"
	}
	return actor
}
