package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// natsServers are three that keep the log, a registry and a verifier beside them: each a process, all of them on one disk.
type natsServers struct {
	*outage
	binary string
	beside string // where registry and verifier have their directories
	key    string // of the log
	hosts  []string
	kills  []func() // of what runs
}

// atThreeServers has the outage happen to three NATS servers, with a registry and a verifier.
func atThreeServers(o *outage) *natsServers {
	s := &natsServers{outage: o, binary: buildProgram(o, o.TempDir(), "nats-server", natsServer), beside: o.data}
	for i := range 3 { // addresses that nobody else on this machine takes
		s.hosts = append(s.hosts, fmt.Sprintf("127.77.%d.%d", os.Getpid()%250+1, i+1))
	}
	o.start = s.startAll
	return s
}

func (s *natsServers) url() string {
	return "nats://" + strings.Join(s.hosts, ":4222,nats://") + ":4222"
}

// conf is what a NATS server is told.
func (s *natsServers) conf(host string) string {
	routes := make([]string, 0, len(s.hosts))
	for _, other := range s.hosts {
		routes = append(routes, fmt.Sprintf("%q", "nats://"+other+":6222"))
	}
	return fmt.Sprintf(`server_name: %q
listen: "%s:4222"
jetstream { store_dir: %q, sync_interval: always, max_file_store: 1G }
accounts { SYS { users: [{user: operator, password: operator}] }, USERS { jetstream: enabled, users: [{user: anyone, password: anyone}] } }
system_account: SYS
no_auth_user: anyone
cluster { name: c, listen: "%s:6222", routes: [%s] }
`, host, host, filepath.Join(s.data, host), host, strings.Join(routes, ","))
}

func (s *natsServers) startAll() (at devFile, kill func()) {
	s.Helper()
	s.startNATS()
	url := s.url()
	signing := filepath.Join(s.beside, "signing.pem")
	if s.key == "" {
		var said string
		require.Eventually(s, func() bool {
			var status int
			said, _, status = client(s.T, url, "", "init", "--replicas", fmt.Sprint(len(s.hosts)), "--signing-key", signing)
			return status == statusDone
		}, 60*time.Second, 100*time.Millisecond)
		s.key = regexp.MustCompile(`[0-9a-f]{64}`).FindString(said)
	}
	hub := startServer(s.T, "registry", "--nats", url, "--system-nats", strings.ReplaceAll(url, "nats://", "nats://operator:operator@"), "--signing-key", signing,
		"--name", "hub", "--data", filepath.Join(s.beside, "registry"), "--admin", "127.0.0.1:0", "--http", "127.0.0.1:0")
	edge := startServer(s.T, "verifier", "--nats", url, "--log-key", s.key, "--name", "edge", "--pop", "ams", "--data", filepath.Join(s.beside, "verifier"),
		"--check", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	nc, err := nats.Connect(url)
	require.NoError(s, err)
	defer nc.Close()
	_ = natsapi.NewClient(nc, "demo", "dev").Do(s.Context(), registry.DeploymentRegister, registry.Request{Name: "echo-model"}, nil) // it may be there
	edge.ready(s)
	for _, p := range []*serverProcess{hub, edge} {
		s.kills = append(s.kills, func() { _ = p.cmd.Process.Kill(); <-p.ended })
	}
	return devFile{NATS: url, Check: edge.addresses["check"]}, s.killAll
}

func (s *natsServers) startNATS() {
	s.Helper()
	require.NoError(s, os.MkdirAll(s.data, 0o700))
	for _, host := range s.hosts {
		conf := filepath.Join(s.TempDir(), "nats.conf")
		require.NoError(s, os.WriteFile(conf, []byte(s.conf(host)), 0o600))
		log := &lockedBuffer{}
		cmd := exec.Command(s.binary, "-c", conf)
		cmd.Stderr = log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		require.NoError(s, cmd.Start())
		kill := sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		s.kills = append(s.kills, kill)
		s.Cleanup(func() {
			kill()
			if s.Failed() {
				text := log.String()
				s.Logf("%s said:\n%s", host, text[max(0, len(text)-3000):])
			}
		})
	}
	require.Eventually(s, func() bool {
		nc, err := nats.Connect(s.url())
		if err == nil {
			nc.Close()
		}
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
}

// killAll is as sudden as the end of power is.
func (s *natsServers) killAll() {
	var ends sync.WaitGroup
	for _, kill := range s.kills {
		ends.Go(kill)
	}
	ends.Wait()
	s.kills = nil
}

// All three servers that keep the log lose their power at once, with the registry and the verifier.
func TestALossOfPowerUnderThreeServersTakesNothingAcknowledged(t *testing.T) {
	o := newOutage(t)
	atThreeServers(o)
	var slowest time.Duration
	cuts := max(*powerCuts/2, 1)
	for range cuts {
		slowest = max(slowest, o.live(500*time.Millisecond))
	}
	lost, checked := o.look()
	t.Logf("%d cuts of power: %d commands acknowledged, %d keys checked, %d lost; ready again after %s at most", cuts, o.acknowledged, checked, lost, slowest)
	require.Zero(t, lost)
	require.Greater(t, o.acknowledged, cuts*10)
}

// The disks of all three servers that keep the log are full at once, below whatever is reserved. Nothing is acknowledged that is not
// there once they have room again and were started again, and checks go on meanwhile.
func TestServersOfTheLogWithoutRoom(t *testing.T) {
	o := newOutage(t)
	s := atThreeServers(o)
	s.beside = t.TempDir()
	dev, kill := o.start()
	lasting := dev.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"lasting","deployments":["echo-model"]}`)
	hangUp := o.callAll(dev.NATS)
	time.Sleep(300 * time.Millisecond)
	o.disk.refuse(syscall.ENOSPC)
	time.Sleep(time.Second)
	require.Equal(t, http.StatusOK, dev.check(t, lasting.Secret, uint64(lasting.Seq)))
	hangUp()
	require.NotZero(t, o.acknowledged)
	require.NotEmpty(t, o.unsure, "some were not answered")
	require.Equal(t, http.StatusOK, dev.check(t, lasting.Secret, uint64(lasting.Seq)))
	kill()
	o.disk.refuse(0)
	lost, checked := o.look()
	t.Logf("%d commands acknowledged, %d keys checked, %d lost", o.acknowledged, checked, lost)
	require.Zero(t, lost)
}
