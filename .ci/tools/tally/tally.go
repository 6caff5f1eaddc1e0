package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of `go test -json`; `go doc test2json` describes it.
type event struct {
	Action  string
	Package string
	Test    string // empty when the event is about the package
	Output  string
	Elapsed float64 // seconds
}

// name identifies a test, or with an empty test its package.
type name struct{ pkg, test string }

type tally struct {
	out                     io.Writer
	passed, failed, skipped int
	said                    map[name]*strings.Builder
	running                 map[name]bool
	failedIn                map[string]int // by package
	failures, skips         []string
}

func newTally(out io.Writer) *tally {
	return &tally{
		out:      out,
		said:     map[name]*strings.Builder{},
		running:  map[name]bool{},
		failedIn: map[string]int{},
	}
}

// follow reads events until r ends. A line that is no event is shown as it is.
func (t *tally) follow(r io.Reader) error {
	lines := bufio.NewReader(r) // not a Scanner: a test may print lines of any length
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				t.take(e)
			} else {
				fmt.Fprint(t.out, line)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) take(e event) {
	n := name{e.Package, e.Test}
	switch {
	case e.Action == "build-output":
		fmt.Fprint(t.out, e.Output)
	case e.Action == "output":
		t.hear(n, e.Output)
	case e.Test == "":
		t.endPackage(e)
	case e.Action == "run":
		t.running[n] = true
	case e.Action == "pass", e.Action == "skip", e.Action == "fail":
		t.endTest(n, e.Action)
	}
}

func (t *tally) hear(n name, output string) {
	if t.said[n] == nil {
		t.said[n] = new(strings.Builder)
	}
	t.said[n].WriteString(output)
}

// tell takes what n has said so far.
func (t *tally) tell(n name) string {
	said := t.said[n]
	delete(t.said, n)
	if said == nil {
		return ""
	}
	return said.String()
}

func (t *tally) endTest(n name, action string) {
	delete(t.running, n)
	said := t.tell(n)
	switch action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
		t.skips = append(t.skips, fmt.Sprintf("%s %s\n%s", n.pkg, n.test, said))
	case "fail":
		t.fail(n)
		fmt.Fprint(t.out, said)
	}
}

func (t *tally) fail(n name) {
	t.failed++
	t.failedIn[n.pkg]++
	t.failures = append(t.failures, strings.TrimSpace(n.pkg+" "+n.test))
}

func (t *tally) endPackage(e event) {
	said := t.tell(name{pkg: e.Package})
	switch e.Action {
	case "pass":
		fmt.Fprintf(t.out, "ok    %s  %.1fs\n", e.Package, e.Elapsed)
	case "fail":
		t.failUnfinished(e.Package)
		if t.failedIn[e.Package] == 0 {
			t.fail(name{pkg: e.Package}) // it did not build, or died outside of a test
		}
		fmt.Fprintf(t.out, "%sFAIL  %s  %.1fs\n", said, e.Package, e.Elapsed)
	}
}

// failUnfinished counts the tests that a panic, a time-out or an exit cut off
// as failed: go test reports no result for them.
func (t *tally) failUnfinished(pkg string) {
	var cut []name
	for n := range t.running {
		if n.pkg == pkg {
			cut = append(cut, n)
		}
	}
	slices.SortFunc(cut, func(a, b name) int { return strings.Compare(a.test, b.test) })
	for _, n := range cut {
		t.endTest(n, "fail")
	}
}

// close prints the summary. A failure that no test and no package reported,
// as of a broken go.mod, counts as one.
func (t *tally) close(status int) {
	if status != 0 && t.failed == 0 {
		t.fail(name{pkg: "go test"})
	}
	t.list("skipped", t.skips)
	t.list("failed", t.failures)
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
}

func (t *tally) list(heading string, entries []string) {
	if len(entries) == 0 {
		return
	}
	fmt.Fprintf(t.out, "\n%s:\n", heading)
	for _, entry := range entries {
		entry = strings.TrimRight(entry, "\n")
		fmt.Fprintln(t.out, "  "+strings.ReplaceAll(entry, "\n", "\n  "))
	}
	fmt.Fprintln(t.out)
}
