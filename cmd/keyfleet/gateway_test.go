package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writeCertificate makes a certificate for 127.0.0.1 with the serial number.
func writeCertificate(t *testing.T, files certificateFiles, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"gateway.test"},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(files.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	require.NoError(t, os.WriteFile(files.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// A gateway of its own serves what the log says, over TLS and HTTP/2, and cuts what is revoked.
func TestGatewayOfItsOwn(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	key, _ := dev.newKey(t, "good", "echo-model")
	signing, err := readSigningKey(filepath.Join(dev.data, "signing.pem"))
	require.NoError(t, err)
	dir := t.TempDir()
	files := certificateFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writeCertificate(t, files, 1)
	g := startServer(t, "gateway", "--name", "edge-gateway", "--log-key", publicHalf(signing).String(), "--nats", dev.NATS,
		"--data", filepath.Join(dir, "data"), "--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--tls-cert", files.cert, "--tls-key", files.key, "--log-level", "debug")
	url := strings.Replace(g.addresses["gateway"], "http:", "https:", 1)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	require.Eventually(t, func() bool { // it has to catch up first
		status, _, _ := askWith(t, client, "GET", url+"/echo-model/v1/models", "", "X-Api-Key: "+key)
		return status == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)

	model := httptest.NewServer(frankModel())
	defer model.Close()
	defer model.CloseClientConnections()
	_, status := dev.keyfleet(t, "", "deployments", "register", "llama", "--upstream", model.URL, "--host", "llama.test")
	require.Equal(t, statusDone, status)
	_, status = dev.keyfleet(t, "", "keys", "attach", "good", "llama", "--wait", "confirmed")
	require.Equal(t, statusDone, status)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/stream", nil)
	require.NoError(t, err)
	r.Host = "llama.test"
	r.Header.Set("X-Api-Key", key)
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode, "a deployment is served as soon as it is registered")
	require.Equal(t, 2, answer.ProtoMajor)
	require.EqualValues(t, 1, answer.TLS.PeerCertificates[0].SerialNumber.Int64())

	writeCertificate(t, files, 2)
	transport.CloseIdleConnections()
	again := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: transport.TLSClientConfig.Clone()}
	defer again.CloseIdleConnections()
	renewed, err := (&http.Client{Transport: again}).Get(url + "/")
	require.NoError(t, err)
	require.NoError(t, renewed.Body.Close())
	require.EqualValues(t, 2, renewed.TLS.PeerCertificates[0].SerialNumber.Int64(), "a new certificate is served at once")

	_, status = dev.keyfleet(t, "", "keys", "delete", "good", "--wait", "confirmed")
	require.Equal(t, statusDone, status)
	confirmed := time.Now()
	_, err = io.ReadAll(answer.Body)
	require.Error(t, err, "the stream is cut")
	t.Logf("the stream was cut %v after the confirmation", time.Since(confirmed))
	require.NotContains(t, g.said.String(), key)
	_, status = dev.keyfleet(t, "", "fleet")
	require.Equal(t, statusDone, status)
}

// A certificate that is not whole leaves the one before in use.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	files := certificateFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writeCertificate(t, files, 1)
	said := &lockedBuffer{}
	c, err := readCertificate(files, newLog(said, 0))
	require.NoError(t, err)
	serial := func() int64 {
		now, err := c.get(nil)
		require.NoError(t, err)
		return now.Leaf.SerialNumber.Int64()
	}
	require.EqualValues(t, 1, serial())
	require.NoError(t, os.WriteFile(files.cert, []byte("half"), 0o600))
	for range 3 {
		require.EqualValues(t, 1, serial())
	}
	require.Equal(t, 1, strings.Count(said.String(), "cannot be read"), "it is said once")
	require.NoError(t, os.Remove(files.key))
	require.EqualValues(t, 1, serial())
	writeCertificate(t, files, 2)
	require.EqualValues(t, 2, serial())
}
