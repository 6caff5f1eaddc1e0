package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// composeService is what a test can hold of a service without Docker.
type composeService struct {
	Image       string
	Command     []string
	Environment map[string]string
	Volumes     []string
	ReadOnly    bool     `yaml:"read_only"`
	DependsOn   []string `yaml:"depends_on"`
}

func composeServices(t *testing.T) map[string]composeService {
	t.Helper()
	var file struct {
		Services map[string]composeService
		Volumes  map[string]any
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "../../deploy/docker/compose.yaml")), &file))
	require.Len(t, file.Services, 4)
	for name, service := range file.Services {
		for _, volume := range service.Volumes {
			if from, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(from, "./") {
				require.FileExists(t, filepath.Join("../../deploy/docker", from))
			} else {
				require.Contains(t, file.Volumes, from, name)
			}
		}
		for _, other := range service.DependsOn {
			require.Contains(t, file.Services, other)
		}
	}
	return file.Services
}

func TestComposeFileSaysWhatKeyfleetUnderstands(t *testing.T) {
	secrets := strings.NewReplacer("${NATS_PASSWORD}", "p1", "${LOG_KEY:-}", strings.Repeat("6f", 32))
	for name, service := range composeServices(t) {
		if service.Image != "keyfleet" {
			continue
		}
		require.True(t, service.ReadOnly, name)
		require.NoError(t, parseOnly(strings.Join(service.Command, " ")), name)
		var variables strings.Builder
		for variable, value := range service.Environment {
			fmt.Fprintf(&variables, "%s=%s\n", variable, secrets.Replace(value))
		}
		requireVariables(t, service.Command[0], variables.String())
	}
}

// A server with the configuration for compose is one that a registry runs on, with the users that the file gives it.
func TestNATSOfTheComposeFile(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "p1e5")
	var config server.Options
	require.NoError(t, config.ProcessConfigFile("../../deploy/docker/nats.conf"))
	config.Host, config.Port, config.StoreDir, config.NoSigs = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true
	nats, err := server.NewServer(&config)
	require.NoError(t, err)
	nats.Start()
	t.Cleanup(func() { _ = stopNATS(nats) })
	require.True(t, nats.ReadyForConnections(natsReady))
	as := func(user string) string { return "nats://" + user + ":p1e5@" + nats.Addr().String() }
	dir := t.TempDir()
	_, _, status := client(t, as("keyfleet"), "", "init", "--signing-key", filepath.Join(dir, "signing.pem"))
	require.Equal(t, statusDone, status)
	hub := startServer(t, "registry", "--signing-key", filepath.Join(dir, "signing.pem"), "--nats", as("keyfleet"), "--system-nats", as("operator"),
		"--data", filepath.Join(dir, "registry"), "--admin", "127.0.0.1:0", "--http", "127.0.0.1:0")
	status, _ = get(t, http.MethodGet, hub.addresses["admin"]+"/livez", "", "")
	require.Equal(t, http.StatusOK, status)
}
