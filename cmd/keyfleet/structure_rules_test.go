// The rules themselves, as functions of plain values, each with a table that
// shows it refusing.

package main_test

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	nats   = "github.com/nats-io"
	pebble = "github.com/cockroachdb/pebble"
)

// layers names, for each top-level folder, the other ones it may reach. A
// folder that is not listed may reach none and be reached by none.
var layers = map[string][]string{
	"projections": {"events"},
	"registry":    {"events", "projections"},
	"verifier":    {"events", "projections"},
	"cmd":         {"events", "projections", "registry", "verifier"},
	"loadtest":    {"events", "projections", "registry", "verifier"},
}

// mayReachNATS and mayImportPebble speak for the packages below them too.
var (
	mayReachNATS = []string{
		"./events/eventlog", "./events/eventlogtest", "./registry/natsapi", "./verifier/uplink",
		"./cmd", "./loadtest",
	}
	mayImportPebble = []string{
		"./projections/keyindex", "./projections/catalog", "./projections/history",
		"./projections/proof", "./projections/snapshot", "./projections/store", "./cmd", "./loadtest",
	}
)

var topLevel = strings.Fields(`
	cmd registry verifier events projections deploy loadtest docs
	go.mod go.sum Makefile README.md LICENSE
`)

// Names that say nothing of what a package is for.
var emptyNames = strings.Fields("util utils helper helpers common manager sync")

// importGraph maps a package to the packages that it imports directly, tests
// left out. The module's own packages are written ./events/head, by folder.
type importGraph map[string][]string

// importFaults says which packages reach what they must not, and by what way.
func importFaults(g importGraph) (faults []string) {
	for _, from := range slices.Sorted(maps.Keys(g)) {
		if !isOurs(from) {
			continue
		}
		ways := g.waysFrom(from)
		for _, to := range slices.Sorted(maps.Keys(ways)) {
			if rule := brokenRule(from, to, len(ways[to]) == 2); rule != "" {
				faults = append(faults, fmt.Sprintf("%s %s: %s", from, rule, strings.Join(ways[to], " -> ")))
			}
		}
	}
	return faults
}

// brokenRule names the rule that keeps from away from to, if there is one.
// Pebble may be reached through the projections that store, so that only its
// direct importers are at fault.
func brokenRule(from, to string, direct bool) string {
	switch {
	case isOurs(to) && !layerMayReach(layerOf(from), layerOf(to)):
		return "may not reach the layer " + layerOf(to)
	case within(to, nats) && !withinAny(from, mayReachNATS):
		return "may not reach NATS"
	case within(to, pebble) && direct && !withinAny(from, mayImportPebble):
		return "may not import Pebble"
	}
	return ""
}

// waysFrom returns a shortest way to every package that from reaches.
func (g importGraph) waysFrom(from string) map[string][]string {
	ways := map[string][]string{}
	for front := [][]string{{from}}; len(front) > 0; front = front[1:] {
		way := front[0]
		last := way[len(way)-1]
		if within(last, nats) || within(last, pebble) {
			continue // the packages behind these are not further faults
		}
		for _, next := range g[last] {
			if _, known := ways[next]; !known && next != from {
				ways[next] = append(slices.Clone(way), next)
				front = append(front, ways[next])
			}
		}
	}
	return ways
}

func isOurs(pkg string) bool { return strings.HasPrefix(pkg, "./") }

func layerOf(pkg string) string {
	layer, _, _ := strings.Cut(strings.TrimPrefix(pkg, "./"), "/")
	return layer
}

func layerMayReach(from, to string) bool { return from == to || slices.Contains(layers[from], to) }

func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

func withinAny(pkg string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return within(pkg, dir) })
}

func TestImportRulesRefuse(t *testing.T) {
	cases := []struct {
		name  string
		graph importGraph
		want  []string // one part of each fault, in order
	}{{
		name: "the layers as designed",
		graph: importGraph{
			"./events":               {"time"},
			"./events/eventlog":      {"./events", nats + "/nats.go"},
			"./projections":          {"./events"},
			"./projections/keyindex": {"./projections", pebble + "/v2"},
			"./registry":             {"./projections"},
			"./registry/natsapi":     {"./registry", "./events/eventlog"},
			"./verifier":             {"./projections/keyindex"},
			"./verifier/uplink":      {"./verifier", nats + "/nats.go"},
			"./cmd/keyfleet":         {"./registry/natsapi", "./verifier/uplink"},
			"./loadtest/chaos":       {"./registry", "./verifier", pebble, nats + "/nats.go"},
		},
	}, {
		name:  "events reach nothing above them",
		graph: importGraph{"./events/head": {"./projections"}},
		want:  []string{"events/head may not reach the layer projections"},
	}, {
		name: "registry and verifier do not know each other, however far",
		graph: importGraph{
			"./registry/fleet": {"./registry"},
			"./registry":       {"./verifier/uplink"},
		},
		want: []string{
			"registry may not reach the layer verifier",
			"registry/fleet may not reach the layer verifier: ./registry/fleet -> ./registry -> ./verifier/uplink",
		},
	}, {
		name:  "nothing stands on loadtest or on a folder without a layer",
		graph: importGraph{"./cmd/keyfleet": {"./loadtest", "./deploy"}},
		want:  []string{"the layer deploy", "the layer loadtest"},
	}, {
		name: "NATS is kept out transitively, also through foreign packages",
		graph: importGraph{
			"./registry/httpapi":      {"./registry/natsapi"},
			"./registry/natsapi":      {nats + "/nats.go"},
			"./verifier":              {"example.org/bridge"},
			"example.org/bridge":      {nats + "/jwt/v2"},
			"./verifier/uplinkextras": {nats + "/nkeys"},
		},
		want: []string{
			"registry/httpapi may not reach NATS: ./registry/httpapi -> ./registry/natsapi -> github.com/nats-io/nats.go",
			"verifier may not reach NATS: ./verifier -> example.org/bridge -> github.com/nats-io/jwt/v2",
			"verifier/uplinkextras may not reach NATS",
		},
	}, {
		name: "Pebble is imported by projections that store",
		graph: importGraph{
			"./projections":      {pebble + "/v2"},
			"./registry/catalog": {pebble + "/v2/vfs"},
			"./verifier":         {"./projections/keyindex", pebble + "/v2"},
		},
		want: []string{
			"projections may not import Pebble",
			"registry/catalog may not import Pebble: ./registry/catalog -> github.com/cockroachdb/pebble/v2/vfs",
			"verifier may not import Pebble",
		},
	}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expect(t, importFaults(c.graph), c.want) })
	}
}

// docFaults wants a package to say in at least two sentences what it is for.
func docFaults(importPath, name, doc string) (faults []string) {
	start := "Package " + name + " "
	if name == "main" {
		start = "Command " + path.Base(importPath) + " "
	}
	switch {
	case doc == "":
		faults = append(faults, importPath+" has no package comment")
	case !strings.HasPrefix(doc, start):
		faults = append(faults, fmt.Sprintf("%s: its package comment must begin %q", importPath, start))
	case len(sentenceEnd.FindAllString(doc, -1)) < 2:
		faults = append(faults, importPath+": its package comment must be at least two sentences")
	}
	return faults
}

// A full stop inside a name or an abbreviation ends nothing: a capital follows.
var sentenceEnd = regexp.MustCompile(`[.!?]["')]*(\s+[^\sa-z]|\s*$)`)

func TestPackageDocRuleRefuses(t *testing.T) {
	cases := []struct{ path, name, doc, want string }{
		{"m/events", "events", "Package events holds facts. They never change.\n", ""},
		{"m/cmd/keyfleet", "main", "Command keyfleet is all of it. See docs.", ""},
		{"m/events", "events", "", "no package comment"},
		{"m/events", "events", "Events are facts. They never change.", "must begin"},
		{"m/events", "events", "Package eventstore holds facts. They never change.", "must begin"},
		{"m/cmd/keyfleet", "main", "Package main is all of it. See docs.", "must begin"},
		{"m/events", "events", "Package events holds facts, e.g. of keys, in v1.2 form.", "two sentences"},
		{"m/events", "events", "Package events holds facts", "two sentences"},
	}
	for _, c := range cases {
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		t.Run(c.doc, func(t *testing.T) { expect(t, docFaults(c.path, c.name, c.doc), want) })
	}
}

// nameFaults looks at the folder and at the package clause: they may differ.
func nameFaults(importPath, name string) (faults []string) {
	for _, n := range []string{path.Base(importPath), strings.TrimSuffix(name, "_test")} {
		if slices.Contains(emptyNames, n) {
			return []string{fmt.Sprintf("%s: the name %s does not say what the package is for", importPath, n)}
		}
	}
	return nil
}

func TestPackageNameRuleRefuses(t *testing.T) {
	expect(t, nameFaults("m/registry/fleet", "fleet"), nil)
	expect(t, nameFaults("m/registry/utils", "fleet"), []string{"the name utils"})
	expect(t, nameFaults("m/registry/fleet", "manager"), []string{"the name manager"})
	expect(t, nameFaults("m/registry/fleet", "sync_test"), []string{"the name sync"})
}

// topLevelFaults lets dot names be, and what .gitignore calls a build output.
func topLevelFaults(names, ignored []string) (faults []string) {
	for _, name := range names {
		output := slices.ContainsFunc(ignored, func(pattern string) bool {
			match, err := path.Match(strings.Trim(pattern, "/"), name)
			return match && err == nil
		})
		if !output && !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			faults = append(faults, name+" does not belong at the top level")
		}
	}
	return faults
}

func TestTopLevelRuleRefuses(t *testing.T) {
	ignored := []string{"# outputs", "/bin/", "*.prof", ""}
	expect(t, topLevelFaults([]string{".ci", "LICENSE", "bin", "cmd", "cpu.prof"}, ignored), nil)
	expect(t, topLevelFaults([]string{"internal", "cmd", "pkg", "notes.md"}, ignored),
		[]string{"internal", "pkg", "notes.md"})
}

func expect(t *testing.T, faults, want []string) {
	t.Helper()
	fits := len(faults) == len(want)
	for i := 0; fits && i < len(want); i++ {
		fits = strings.Contains(faults[i], want[i])
	}
	if !fits {
		t.Errorf("got faults\n  %s\nwant\n  %s", strings.Join(faults, "\n  "), strings.Join(want, "\n  "))
	}
}
