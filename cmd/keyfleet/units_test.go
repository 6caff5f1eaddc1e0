package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// exposure is the most that systemd-analyze may say of a unit, in tenths: under 2.0 is what it calls OK.
const exposure = "15"

var (
	unitCommand  = regexp.MustCompile(`(?s)\nExecStart=/usr/local/bin/keyfleet (.*?[^\\])\n`)
	unitSocket   = regexp.MustCompile(`\nListenStream=(.*)\nFileDescriptorName=(.*)\n`)
	unitVariable = regexp.MustCompile(`(?m)^(KEYFLEET_\w+)=(.*)$`)
)

func TestSystemdUnits(t *testing.T) {
	requireProgram(t, "systemd-analyze")
	binary, err := exec.LookPath("keyfleet")
	require.NoError(t, err)
	for _, role := range []string{"registry", "verifier", "gateway"} {
		name := "keyfleet-" + role + ".service"
		text := read(t, filepath.Join("../../deploy/systemd", name))
		require.Contains(t, text, "\nDynamicUser=yes\n")
		require.Contains(t, text, "\nLimitCORE=0\n")
		here := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(here, []byte(strings.ReplaceAll(text, "/usr/local/bin/keyfleet", binary)), 0o600))
		said, err := exec.Command("systemd-analyze", "verify", here).CombinedOutput()
		require.NoError(t, err, "%s", said)
		require.Empty(t, string(said))
		said, err = exec.Command("systemd-analyze", "security", "--offline=true", "--threshold="+exposure, here).CombinedOutput()
		require.NoError(t, err, "%s", said)

		command := strings.ReplaceAll(unitCommand.FindStringSubmatch(text)[1], "\\\n", "")
		require.NoError(t, parseOnly(command), command)
		require.True(t, strings.HasPrefix(command, role+" "))
		requireVariables(t, role, read(t, filepath.Join("../../deploy/systemd", role+".env")))
	}
	socket := "keyfleet-verifier.socket"
	dir := t.TempDir() // the socket is of the service of its name
	for _, name := range []string{socket, "keyfleet-verifier.service"} {
		text := strings.ReplaceAll(read(t, filepath.Join("../../deploy/systemd", name)), "/usr/local/bin/keyfleet", binary)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	verify := exec.Command("systemd-analyze", "verify", filepath.Join(dir, socket))
	verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	said, err := verify.CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Empty(t, string(said))
	held := unitSocket.FindStringSubmatch(read(t, filepath.Join("../../deploy/systemd", socket)))
	verifier, _, err := (&app{}).rootCommand().Find([]string{"verifier"})
	require.NoError(t, err)
	require.Equal(t, verifier.Flags().Lookup(held[2]).DefValue, held[1])
}

// requireVariables holds a file of variables to the flags of the command that it is for.
func requireVariables(t *testing.T, command, file string) {
	t.Helper()
	cmd, _, err := (&app{}).rootCommand().Find([]string{command})
	require.NoError(t, err)
	flags := map[string]*pflag.Flag{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags[environmentName(f.Name)] = f })
	variables := unitVariable.FindAllStringSubmatch(file, -1)
	require.NotEmpty(t, variables)
	for _, variable := range variables {
		require.Contains(t, flags, variable[1], "keyfleet %s has no such flag", command)
		require.NoError(t, flags[variable[1]].Value.Set(variable[2]), variable[0])
	}
}
