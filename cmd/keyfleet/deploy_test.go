package main

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// deployed is a fleet as deploy init configures it, its NATS servers in this process.
type deployed struct {
	*testing.T
	dir string
	hub *server.Server
	url string // of the hub
	key string // of the log
}

// deploy has deploy init write a configuration, and starts a hub of one server from it, and opens a log there.
func deploy(t *testing.T) *deployed {
	d := &deployed{T: t, dir: filepath.Join(t.TempDir(), "fleet")}
	d.configure()
	d.hub = d.start("hub/hub-1.conf", ofOneServer)
	d.url = d.hub.ClientURL()
	stdout, _, status := d.ask("init", "--lease", "9m", "--signing-key", filepath.Join(d.dir, "signing.pem"), "--creds", d.creds("hub/setup"))
	require.Equal(t, statusDone, status)
	d.key = regexp.MustCompile(`[0-9a-f]{64}`).FindString(stdout)
	return d
}

// configure has deploy init write the configuration, or what of it is due again.
func (d *deployed) configure() {
	d.Helper()
	_, _, status := client(d.T, "", "", "deploy", "init", d.dir, "--hub", "127.0.0.1", "--pop", "ams", "--pop", "fra",
		"--admin", "acme/alice", "--admin", "acme/bob", "--owner", "root", "--auditor", "ada")
	require.Equal(d, statusDone, status)
}

// ofOneServer leaves a server of the hub to itself, and lets PoPs in on a free port.
func ofOneServer(o *server.Options) {
	o.Cluster, o.Routes = server.ClusterOpts{}, nil
	o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", server.RANDOM_PORT
}

// start runs a server as its file says, but on free ports, and in a directory of its own.
func (d *deployed) start(conf string, change func(*server.Options)) *server.Server {
	d.Helper()
	opts := d.options(conf)
	opts.Host, opts.Port, opts.StoreDir, opts.NoLog, opts.NoSigs = "127.0.0.1", server.RANDOM_PORT, d.TempDir(), true, true
	change(opts)
	s, err := server.NewServer(opts)
	require.NoError(d, err)
	d.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	s.Start()
	require.True(d, s.ReadyForConnections(30*time.Second))
	return s
}

// options are what the file says, where it is and not in /etc/nats.
func (d *deployed) options(conf string) *server.Options {
	d.Helper()
	dir, name := filepath.Split(filepath.Join(d.dir, conf))
	text, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(d, err)
	here := filepath.Join(dir, "here-"+name)
	require.NoError(d, os.WriteFile(here, []byte(strings.ReplaceAll(string(text), "/etc/nats/", dir)), 0o600))
	opts, err := server.ProcessConfigFile(here)
	require.NoError(d, err)
	return opts
}

// ask runs a command against the hub.
func (d *deployed) ask(args ...string) (stdout, stderr string, status int) {
	d.Helper()
	return client(d.T, d.url, "", append(args, "--tls-ca", d.ca())...)
}

func (d *deployed) ca() string { return filepath.Join(d.dir, "hub/ca.crt") }

// startSite runs a site's server, with a copy of the log on it: all of it, unless flags for the copy say otherwise.
func (d *deployed) startSite(name string, mirror ...string) *server.Server {
	d.Helper()
	if mirror == nil {
		mirror = []string{"--keep", "0"}
	}
	varz, err := d.hub.Varz(nil)
	require.NoError(d, err)
	hub := &url.URL{Scheme: "tls", Host: fmt.Sprintf("127.0.0.1:%d", varz.LeafNode.Port)}
	s := d.start("sites/"+name+"/nats.conf", func(o *server.Options) {
		o.LeafNode.Remotes[0].URLs = []*url.URL{hub}
		o.LeafNode.Remotes[0].Credentials = d.creds("sites/" + name + "/leaf")
	})
	_, _, status := d.ask(append([]string{"deploy", "admit", name, "--creds", d.creds("hub/setup")}, mirror...)...)
	require.Equal(d, statusDone, status)
	_, _, status = client(d.T, s.ClientURL(), "", append([]string{"deploy", "mirror", name, "--creds", d.creds("sites/" + name + "/setup")}, mirror...)...)
	require.Equal(d, statusDone, status)
	return s
}

func (d *deployed) startRegistry() *serverProcess { return startServer(d.T, d.registryArgs()...) }

func (d *deployed) registryArgs() []string {
	return []string{"registry", "--signing-key", filepath.Join(d.dir, "signing.pem"), "--nats", d.url, "--creds", d.creds("hub/registry"), "--tls-ca", d.ca(),
		"--system-creds", d.creds("hub/system"), "--name", "hub-1", "--data", d.TempDir(), "--admin", "127.0.0.1:0", "--http", "127.0.0.1:0"}
}

func (d *deployed) startVerifier(name string, at *server.Server) *serverProcess {
	return startServer(d.T, d.verifierArgs(name, at)...)
}

func (d *deployed) verifierArgs(name string, at *server.Server) []string {
	return []string{"verifier", "--log-key", d.key, "--nats", at.ClientURL(), "--creds", d.creds("sites/" + name + "/verifier"), "--mirror",
		"--name", name, "--pop", name, "--data", d.TempDir(), "--check", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
}

// creds is a credentials file.
func (d *deployed) creds(of string) string { return filepath.Join(d.dir, of+".creds") }

// as connects with credentials, at the hub or a site's server.
func (d *deployed) as(who string, at *server.Server) *nats.Conn {
	d.Helper()
	as := access{creds: d.creds(who)}
	if at == d.hub {
		as.tlsCA = d.ca()
	}
	opts, err := as.options()
	require.NoError(d, err)
	silent := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}) // refusals are what some look for
	nc, err := nats.Connect(at.ClientURL(), append(opts, silent)...)
	require.NoError(d, err)
	d.Cleanup(nc.Close)
	return nc
}

// What everyone must be able to do, with the credentials written for them and no others.
func TestAFleetRunsOnWhatDeployInitWrites(t *testing.T) {
	d := deploy(t)
	hub := d.startRegistry()
	_, metrics := get(t, http.MethodGet, hub.addresses["admin"]+"/metrics", "", "")
	require.Regexp(t, `\nkeyfleet_registry_nats_certificate_expiry_timestamp_seconds 1\.\d+e\+09\n`, metrics)
	alice := d.creds("admins/acme.alice")
	_, _, status := d.ask("deployments", "register", "llama", "--project", "acme", "--creds", alice)
	require.Equal(t, statusDone, status)
	ams := d.startVerifier("ams", d.startSite("ams"))
	fra := d.startVerifier("fra", d.startSite("fra"))
	ams.ready(t)
	fra.ready(t)

	key, _, status := d.ask("keys", "create", "night", "--deployment", "llama", "--project", "acme", "--creds", alice, "--wait", "confirmed")
	require.Equal(t, statusDone, status)
	key = regexp.MustCompile(`kf_\w+`).FindString(key)
	for _, v := range []*serverProcess{ams, fra} {
		status, _ := get(t, "GET", v.addresses["check"]+"/v1/check/acme/llama", key, "")
		require.Equal(t, 200, status)
	}
	_, said, status := d.ask("keys", "delete", "night", "--project", "acme", "--creds", alice, "--wait", "confirmed")
	require.Equal(t, statusDone, status, said)
	for _, v := range []*serverProcess{ams, fra} {
		status, _ := get(t, "GET", v.addresses["check"]+"/v1/check/acme/llama", key, "")
		require.Equal(t, 401, status)
	}

	ada := d.startSite("ada")
	require.Eventually(t, func() bool {
		log, _, _ := client(t, ada.ClientURL(), "", "audit", "log", "--mirror", "--creds", d.creds("sites/ada/auditor"), "--type", "deleted", "--json")
		return regexp.MustCompile(`"actor":"alice"`).MatchString(log)
	}, 10*time.Second, 10*time.Millisecond)
	said, _, status = d.ask("fleet", "--actor", "root", "--creds", d.creds("owners/root"))
	require.Equal(t, statusDone, status)
	require.Contains(t, said, "leases last 9m")

	_, _, status = d.ask("deploy", "admit", "ams", "--creds", d.creds("hub/setup"))
	require.Equal(t, statusDone, status)
	_, said, status = d.ask("keys", "create", "daily", "--project", "acme", "--creds", alice, "--wait", "confirmed")
	require.Equal(t, statusDone, status, "fed from the beginning again, it goes on where it was: %s", said)
}

// To ask for the same again, and more, leaves the credentials of those who have some.
func TestDeployInitGrowsAFleet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "fleet")
	args := []string{"deploy", "init", dir, "--hub", "a,b,c", "--pop", "ams"}
	_, _, status := client(t, "", "", args...)
	require.Equal(t, statusDone, status)
	before, err := os.ReadFile(filepath.Join(dir, "sites/ams/verifier.creds"))
	require.NoError(t, err)
	_, _, status = client(t, "", "", append(args, "--pop", "fra")...)
	require.Equal(t, statusDone, status)
	after, err := os.ReadFile(filepath.Join(dir, "sites/ams/verifier.creds"))
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.FileExists(t, filepath.Join(dir, "sites/fra/verifier.creds"))
	requireVariables(t, "init", read(t, filepath.Join(dir, "hub/init.env")))
	require.Contains(t, read(t, filepath.Join(dir, "hub/init.env")), "\nKEYFLEET_REPLICAS=3\nKEYFLEET_LEASE=10m0s\n")
	requireVariables(t, "verifier", read(t, filepath.Join(dir, "sites/ams/verifier.env")))
	opts := (&deployed{T: t, dir: dir}).options("hub/hub-3.conf")
	require.Len(t, opts.Routes, 3)
	require.True(t, opts.SyncAlways)
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is for its owner alone", path)
		return nil
	}))

	for flag, args := range map[string][]string{
		"--hub":        {"--hub", "a,b"},
		"--pop":        {"--hub", "a", "--pop", "ams", "--auditor", "ams"},
		"--admin":      {"--hub", "a", "--admin", "acme"},
		"--owner":      {"--hub", "a", "--owner", "_system"},
		"--past-lease": {"--hub", "a", "--past-lease", "never"},
		"--lease":      {"--hub", "a", "--lease", "1s"},
	} {
		_, said, status := client(t, "", "", append([]string{"deploy", "init", filepath.Join(t.TempDir(), "x")}, args...)...)
		require.Equal(t, statusUsage, status)
		require.Contains(t, said, flag)
	}
}

func TestDeployPageCommands(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	binary, err := exec.LookPath("keyfleet")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(binary, filepath.Join(dir, "bin", "keyfleet")))
	shell := exec.Command("bash", "-c", "set -eu\n"+strings.Join(blocksOf(t, "../../docs/deploy.md", "sh"), ""))
	shell.Dir = dir
	said, err := shell.CombinedOutput()
	require.NoError(t, err, "%s", said)
	for _, file := range []string{"keys", "hub/hub-3.conf", "hub/registry.creds", "hub/system.creds", "hub/setup.creds", "hub/init.env", "hub/metrics.creds",
		"admins/acme.alice.creds", "owners/root.creds", "sites/ams/verifier.env", "sites/ada/auditor.creds"} {
		_, err := os.Stat(filepath.Join(dir, "fleet", file))
		require.NoError(t, err)
	}
}
