package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

// Every command that docs/audit.md shows is carried out, in order, in one shell, against a dev and an empty NATS server.
func TestAuditPageCommands(t *testing.T) {
	for _, tool := range []string{"bash", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not here: %v", tool, err)
		}
	}
	dir := t.TempDir()
	startDev(t, filepath.Join(dir, "keyfleet-data"))
	server := eventlogtest.StartServer(t)
	shown := "set -eux\n" + strings.Join(blocksOf(t, "../../docs/audit.md", "sh"), "")
	shell := exec.Command("bash", "-c", strings.ReplaceAll(shown, "nats://127.0.0.1:4322", server.ClientURL()))
	shell.Dir = dir
	output, err := shell.CombinedOutput()
	t.Logf("%s", output)
	require.NoError(t, err)
	for _, want := range []string{
		"verified: every one of the", "proven: Seq 3 of", "nothing up to there was changed", "would have been allowed", "imported",
	} {
		require.Contains(t, string(output), want)
	}
}
