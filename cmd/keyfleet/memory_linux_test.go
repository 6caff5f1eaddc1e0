package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
)

// holds reports whether the text is in the memory of the process: in what a core dump would have.
func (p *serverProcess) holds(t *testing.T, text string) bool {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", p.cmd.Process.Pid))
	require.NoError(t, err)
	defer maps.Close()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.cmd.Process.Pid))
	if err != nil {
		t.Skipf("another process's memory cannot be read here: %v", err)
	}
	defer memory.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var may string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &may); err != nil || !strings.HasPrefix(may, "rw") {
			continue
		}
		const step, overlap = 4 << 20, 256
		part := make([]byte, step+overlap)
		for at := from; at < to; at += step {
			n, _ := memory.ReadAt(part[:min(step+overlap, to-at)], at) // what is mapped, and not there, is passed over
			if bytes.Contains(part[:n], []byte(text)) {
				return true
			}
		}
	}
	return false
}

// A create that sends only a digest leaves nothing of the secret in a registry's memory, and so none in a core dump. A verifier has
// what callers showed it for a while, which is why the units allow no core dumps.
func TestNothingOfASecretIsInARegistrysMemory(t *testing.T) {
	f := startFleetOfProcesses(t)
	v := f.startVerifier("ams-1")
	_, _, status := client(t, f.url, "", "deployments", "register", "llama", "--project", "acme")
	require.Equal(t, statusDone, status)
	stdout, _, status := client(t, f.url, "", "keys", "create", "canary-of-memory", "--deployment", "llama", "--project", "acme", "--wait", "confirmed", "--json")
	require.Equal(t, statusDone, status)
	var made registry.KeyReply
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	answer, _ := get(t, http.MethodGet, v.addresses["check"]+"/v1/check/acme/llama", made.Secret, "")
	require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, answer)
	require.True(t, f.registry.holds(t, "canary-of-memory"), "what it was told is found")
	body := made.Secret[len("kf_"):][:43]
	for _, hub := range []*serverProcess{f.registry, f.standby} {
		require.False(t, hub.holds(t, body))
	}
}
