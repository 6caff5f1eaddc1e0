package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/uplink"
)

var fenced = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// readmeBlocks gives the fenced blocks of a language, in order.
func readmeBlocks(t *testing.T, language string) (blocks []string) {
	t.Helper()
	return blocksOf(t, "../../README.md", language)
}

// blocksOf gives those of any page.
func blocksOf(t *testing.T, page, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, block := range fenced.FindAllStringSubmatch(string(text), -1) {
		if block[1] == language {
			blocks = append(blocks, block[2])
		}
	}
	require.NotEmpty(t, blocks)
	return blocks
}

// Every command that the README shows is carried out, in order, in one shell, against a dev on free ports.
func TestReadmeCommands(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not here: %v", tool, err)
		}
	}
	dir := t.TempDir()
	dev := startDev(t, filepath.Join(dir, "keyfleet-data"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	binary, err := exec.LookPath("keyfleet")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(binary, filepath.Join(dir, "bin", "keyfleet")))

	var script strings.Builder
	script.WriteString("set -eu\n")
	for _, block := range readmeBlocks(t, "sh") {
		for line := range strings.Lines(block) {
			if target, ok := strings.CutPrefix(line, "make "); ok {
				requireTarget(t, strings.TrimSpace(target))
				continue
			}
			fmt.Fprintf(&script, "echo '$ '%s\n%s", quoted(strings.TrimSpace(line)), line)
			// What a person types next comes later than the verifier has applied this; a script is as fast.
			fmt.Fprintf(&script, "curl -sS -o /dev/null %s/v1/check/demo/echo-model -H 'x-api-key: %s' -H \"Keyfleet-Min-Seq: $(bin/keyfleet keys list --json | tr '{,}' '\\n' | sed -n 's/^\"seq\"://p' | tail -1)\"\n",
				dev.Check, apikey.Generate().Reveal())
		}
	}
	shown := strings.NewReplacer(
		"http://127.0.0.1:8080", dev.HTTP, "http://127.0.0.1:8280", dev.Gateway, "http://127.0.0.1:8181", dev.Check, "http://127.0.0.1:8182", dev.Admin,
		"nats req", "nats -s "+dev.NATS+" req",
	).Replace(script.String())
	shell := exec.Command("bash", "-c", shown)
	shell.Dir = dir
	output, err := shell.CombinedOutput()
	t.Logf("%s", output)
	require.NoError(t, err)
	for _, want := range []string{
		`"content":"Hello, edge!"`, `"name":"rest-key"`, "deleted my-first-key", "\n401\n", "allowed", `"name":"llama"`, `"deployment_names":["echo-model","llama"]`,
		"Keyfleet-Key-Id:", `"state":"serving"`,
	} {
		require.Contains(t, string(output), want)
	}
}

func requireTarget(t *testing.T, target string) {
	t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^`+regexp.QuoteMeta(target)+`:`, string(makefile))
}

// What dev prints is what the README shows.
func TestWelcomeShowsTheReadmesCommands(t *testing.T) {
	called := os.Args[0]
	defer func() { os.Args[0] = called }()
	os.Args[0] = "bin/keyfleet"
	var said strings.Builder
	require.NoError(t, welcome(&said, defaultData, devFile{Gateway: "http://127.0.0.1:8280"}))
	for line := range strings.Lines(readmeBlocks(t, "sh")[1]) {
		require.Contains(t, said.String(), line)
	}
	said.Reset()
	require.NoError(t, welcome(&said, "elsewhere", devFile{}))
	require.Regexp(t, `(?m)^  export KEYFLEET_DATA=/.*/elsewhere$`, said.String())
}

func TestReadmeGoIsWhatThisFileCompiles(t *testing.T) {
	source, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	for _, block := range readmeBlocks(t, "go") {
		indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(block, "\t$1")
		require.Contains(t, string(source), indented)
	}
}

func embed(ctx context.Context, url, dir string, logKey events.PublicKey, key []byte) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	log, err := eventlog.Open(ctx, nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	hub, err := uplink.New(nc, "my-gateway") // a name of its own: it is a member of the fleet
	if err != nil {
		return err
	}
	v, err := verifier.Open(dir, verifier.Options{
		Source: log, Uplink: hub, Reports: hub, Name: "my-gateway", LogKeys: []events.PublicKey{logKey},
	})
	if err != nil {
		return err
	}
	defer v.Close()
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { v.Run(ctx) }) // follows the log; until it has caught up nothing is allowed
	defer running.Wait()
	defer stop()

	answer := v.Check(ctx, verifier.Request{Project: "demo", Deployment: "echo-model", Key: key})
	if answer.Allowed() {
		fmt.Println("let it pass; it is", answer.Key)
	}
	return nil
}

func TestEmbeddedVerifier(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	key, err := readSigningKey(filepath.Join(dev.data, "signing.pem"))
	require.NoError(t, err)
	require.NoError(t, embed(t.Context(), dev.NATS, t.TempDir(), publicHalf(key), nil))
	status, _ := get(t, http.MethodGet, dev.Admin+"/readyz", "", "")
	require.Equal(t, http.StatusOK, status)
}
