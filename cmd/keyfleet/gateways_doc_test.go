package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/socket"
)

// Every command that docs/gateways.md shows is carried out, in order, in one shell, against a dev.
func TestGatewaysPageCommands(t *testing.T) {
	requireProgram(t, "curl")
	dir := t.TempDir()
	dev := startDev(t, filepath.Join(dir, "keyfleet-data"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	binary, err := exec.LookPath("keyfleet")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(binary, filepath.Join(dir, "bin", "keyfleet")))
	shown := "set -eux\n" + strings.Join(blocksOf(t, "../../docs/gateways.md", "sh"), "")
	shell := exec.Command("bash", "-c", strings.ReplaceAll(shown, "http://127.0.0.1:8280", dev.Gateway))
	shell.Dir = dir
	said, err := shell.CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Contains(t, string(said), `"content":"Hello, edge!"`)
	require.Contains(t, string(said), `"id":"echo-model"`)
}

func TestGatewaysPageGoIsWhatThisFileCompiles(t *testing.T) {
	source, err := os.ReadFile("gateways_doc_test.go")
	require.NoError(t, err)
	for _, block := range blocksOf(t, "../../docs/gateways.md", "go") {
		require.Contains(t, string(source), regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(block, "\t$1"))
	}
	require.Error(t, askSidecar(t.Context(), nil), "nobody listens there")
}

func askSidecar(ctx context.Context, key []byte) error {
	checks, err := socket.Dial("/run/keyfleet/check.sock")
	if err != nil {
		return err
	}
	answer, err := checks.Check(ctx, verifier.Request{Project: "demo", Deployment: "echo-model", Key: key})
	if err != nil {
		return err // nothing passes
	}
	if answer.Allowed() {
		fmt.Println("let it pass; it is", answer.Key)
	}
	return nil
}
