package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// Who does not know the hub by its certificate is not talked into talking to it, and credentials do not help.
func TestTheHubIsKnownByItsCertificate(t *testing.T) {
	d := deploy(t)
	alice := d.creds("admins/acme.alice")
	_, said, status := client(t, d.url, "", "keys", "list", "--project", "acme", "--creds", alice)
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, said, "--tls-ca")
	other := filepath.Join(t.TempDir(), "other")
	_, _, status = client(t, "", "", "deploy", "init", other, "--hub", "127.0.0.1")
	require.Equal(t, statusDone, status)
	_, said, status = client(t, d.url, "", "keys", "list", "--project", "acme", "--creds", alice, "--tls-ca", filepath.Join(other, "hub/ca.crt"))
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, said, "--tls-ca")
	_, said, status = client(t, d.url, "", "keys", "list", "--project", "acme", "--creds", alice, "--tls-ca", alice)
	require.Equal(t, statusUsage, status)
	require.Contains(t, said, "no certificate")
}

// A certificate stays until a third of its time is left, and is another then, as it is for another host.
func TestCertificatesAreRenewed(t *testing.T) {
	dir := t.TempDir()
	ca, err := keyring{dir}.authority()
	require.NoError(t, err)
	again, err := keyring{dir}.authority()
	require.NoError(t, err)
	require.Equal(t, ca.pem, again.pem)
	path := filepath.Join(dir, "hub-1")
	certified := func(host string) *x509.Certificate {
		require.NoError(t, ca.certify(path, host))
		text, err := os.ReadFile(path + ".crt")
		require.NoError(t, err)
		cert, err := readCertificatePEM(text)
		require.NoError(t, err)
		roots := x509.NewCertPool()
		roots.AddCert(ca.cert)
		for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			_, err = cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{use}})
			require.NoError(t, err)
		}
		return cert
	}
	first := certified("hub1.example.org")
	require.Equal(t, first.SerialNumber, certified("hub1.example.org").SerialNumber)
	second := certified("10.0.0.7")
	require.NotEqual(t, first.SerialNumber, second.SerialNumber)
	ca.life = serverLife/3 - time.Hour
	require.NoError(t, os.Remove(path+".crt"))
	third := certified("10.0.0.7")
	ca.life = serverLife
	require.NotEqual(t, third.SerialNumber, certified("10.0.0.7").SerialNumber)
}

// A server that is told to reload shows its renewed certificate from then on, and whoever is connected stays.
func TestARenewedCertificateIsTakenInByReload(t *testing.T) {
	d := deploy(t)
	shown := func() (*nats.Conn, *x509.Certificate) {
		nc := d.as("admins/acme.alice", d.hub)
		state, err := nc.TLSConnectionState()
		require.NoError(t, err)
		require.EqualValues(t, tls.VersionTLS13, state.Version)
		return nc, state.PeerCertificates[0]
	}
	before, first := shown()
	require.NoError(t, os.Remove(filepath.Join(d.dir, "hub/hub-1.crt")))
	then := time.Now().Unix() // claims are dated by the second, and a server takes no other of its operator's
	require.Eventually(t, func() bool { return time.Now().Unix() > then }, 10*time.Second, 10*time.Millisecond)
	d.configure()
	d.reload()
	_, second := shown()
	require.NotEqual(t, first.SerialNumber, second.SerialNumber)
	require.NoError(t, before.Flush())
	require.Zero(t, before.Statistics.Reconnects)
}

// reload has the hub read its files again, as nats-server --signal reload does.
func (d *deployed) reload() {
	d.Helper()
	opts := d.options("hub/hub-1.conf")
	opts.Host, opts.Port, opts.StoreDir, opts.NoLog, opts.NoSigs = "127.0.0.1", server.RANDOM_PORT, filepath.Dir(d.hub.StoreDir()), true, true
	ofOneServer(opts)
	require.NoError(d, d.hub.ReloadOptions(opts))
}

// Who is not named again is let in no more, and put out, once the hub has read what deploy init wrote.
func TestWhoIsLeftOutIsShutOut(t *testing.T) {
	d := deploy(t)
	gone := make(chan struct{})
	nc := d.as("admins/acme.bob", d.hub)
	nc.SetClosedHandler(func(*nats.Conn) { close(gone) })
	d.as("admins/acme.alice", d.hub)
	_, said, status := client(t, "", "", "deploy", "init", d.dir, "--hub", "127.0.0.1", "--admin", "acme/alice")
	require.Equal(t, statusDone, status)
	for _, who := range []string{"admins/acme.bob", "owners/root", "sites/ada", "sites/ams", "sites/fra"} {
		require.Contains(t, said, who+" was not named")
	}
	require.NotContains(t, said, "alice")
	d.reload()
	d.as("admins/acme.alice", d.hub)
	select {
	case <-gone:
	case <-time.After(60 * time.Second):
		t.Fatal("bob is still connected")
	}
}

// A NATS server that was started with another key finds no log, and makes none in its place: with the right key it is all there.
func TestAnotherKeyAtRestLosesNothing(t *testing.T) {
	d := deploy(t)
	d.startRegistry()
	alice := d.creds("admins/acme.alice")
	_, _, status := d.ask("keys", "create", "night-batch", "--project", "acme", "--creds", alice)
	require.Equal(t, statusDone, status)
	store := d.hub.StoreDir()
	again := func(change func(*server.Options)) {
		d.hub.Shutdown()
		d.hub.WaitForShutdown()
		d.hub = d.start("hub/hub-1.conf", func(o *server.Options) {
			ofOneServer(o)
			o.StoreDir = filepath.Dir(store)
			change(o)
		})
		d.url = d.hub.ClientURL()
	}
	again(func(o *server.Options) {
		require.NotEmpty(t, o.JetStreamKey)
		o.JetStreamKey = "another"
	})
	_, said, status := client(t, d.url, "", d.registryArgs()...)
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, said, "keyfleet init")
	require.Contains(t, said, "encryption key")
	again(func(*server.Options) {})
	d.startRegistry()
	listed, _, status := d.ask("keys", "list", "--project", "acme", "--creds", alice)
	require.Equal(t, statusDone, status)
	require.Contains(t, listed, "night-batch")
}
