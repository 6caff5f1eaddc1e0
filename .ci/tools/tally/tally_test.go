package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each case is a package as go test would meet it; the counts and the status
// must be what a person reading that package expects.
func TestTallyCountsWhatHappened(t *testing.T) {
	cases := []struct {
		name, body string
		status     int
		closing    string
		says       string
	}{{
		name:    "all pass",
		body:    `func TestA(t *testing.T) { t.Run("sub", func(t *testing.T) {}) }`,
		closing: "2 passed, 0 failed, 0 skipped",
		says:    "ok    fixture",
	}, {
		name:    "a skip gives its reason",
		body:    `func TestA(t *testing.T) {}; func TestB(t *testing.T) { t.Skip("no moon tonight") }`,
		closing: "1 passed, 0 failed, 1 skipped",
		says:    "no moon tonight",
	}, {
		name:    "a failed subtest fails its parent",
		body:    `func TestA(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Error("wrong sum") }) }`,
		status:  1,
		closing: "0 passed, 2 failed, 0 skipped",
		says:    "wrong sum",
	}, {
		name:    "a panic",
		body:    `func TestA(t *testing.T) {}; func TestB(t *testing.T) { panic("burst") }`,
		status:  1,
		closing: "1 passed, 1 failed, 0 skipped",
		says:    "burst",
	}, {
		name:    "an exit cuts off the test it happens in",
		body:    `func TestA(t *testing.T) { os.Exit(3) }`,
		status:  1,
		closing: "0 passed, 1 failed, 0 skipped",
		says:    "fixture TestA",
	}, {
		name:    "a failure outside of every test",
		body:    `func TestA(t *testing.T) {}; func TestMain(m *testing.M) { m.Run(); os.Exit(1) }`,
		status:  1,
		closing: "1 passed, 1 failed, 0 skipped",
	}, {
		name:    "a package that does not build",
		body:    `func TestA(t *testing.T) { missing() }`,
		status:  1,
		closing: "0 passed, 1 failed, 0 skipped",
		says:    "undefined: missing",
	}, {
		name:    "no test",
		closing: "0 passed, 0 failed, 0 skipped",
	}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(fixture(t, c.body))
			var out bytes.Buffer
			status, err := goTest(&out, []string{"./..."})
			if err != nil || status != c.status {
				t.Errorf("status %d, error %v; want status %d", status, err, c.status)
			}
			if !strings.HasSuffix(out.String(), c.closing+"\n") || !strings.Contains(out.String(), c.says) {
				t.Errorf("got:\n%s\nwant %q in it and the last line %q", out.String(), c.says, c.closing)
			}
		})
	}
}

func TestTallyCountsABrokenModuleAsOneFailure(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "not a go.mod\n")
	t.Chdir(dir)
	var out bytes.Buffer
	status, err := goTest(&out, []string{"./..."})
	if err != nil || status == 0 || !strings.HasSuffix(out.String(), "0 passed, 1 failed, 0 skipped\n") {
		t.Errorf("status %d, error %v, output:\n%s", status, err, out.String())
	}
}

func fixture(t *testing.T, body string) (dir string) {
	dir = t.TempDir()
	write(t, dir, "go.mod", "module fixture\n\ngo 1.26.0\n")
	write(t, dir, "fixture_test.go", "package fixture\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _, _ = os.Exit, testing.Short\n\n"+body+"\n")
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
