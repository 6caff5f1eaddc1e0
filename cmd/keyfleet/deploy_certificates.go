package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// How long certificates are good. A server's is written anew by keyfleet deploy init once less than a third of that is left.
const (
	authorityYears = 20
	serverLife     = 825 * 24 * time.Hour // the longest that every TLS library takes
	clockSlack     = time.Hour            // of machines whose clocks are behind
)

// authority signs the certificates of the hub's NATS servers. Nothing else is signed by it.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte        // of cert
	life time.Duration // of what it signs
}

// authority finds the deployment's own, or makes it.
func (k keyring) authority() (*authority, error) {
	certPath, keyPath := filepath.Join(k.dir, "ca.crt"), filepath.Join(k.dir, "ca.key")
	if _, err := os.Stat(certPath); errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(certPath, keyPath); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(certPath)
	if err != nil {
		return nil, err
	}
	cert, err := readCertificatePEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certPath, err)
	}
	secret, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(secret)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key (PEM)", keyPath)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("%s holds no ECDSA key", keyPath), err)
	}
	return &authority{cert, private, text, serverLife}, nil
}

func makeAuthority(certPath, keyPath string) error {
	now := time.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Keyfleet, NATS servers of one deployment"},
		NotBefore: now.Add(-clockSlack), NotAfter: now.AddDate(authorityYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKeyPEM(keyPath, key); err != nil { // before the certificate, by which it is known to be there
		return err
	}
	return writeCertificatePEM(certPath, template, template, key, key)
}

// certify writes a certificate for the hub's server on the host, and its key, unless there is one with enough time left.
func (a *authority) certify(path, host string) error {
	if text, err := os.ReadFile(path + ".crt"); err == nil {
		if cert, err := readCertificatePEM(text); err == nil && cert.VerifyHostname(host) == nil &&
			time.Until(cert.NotAfter) > serverLife/3 && cert.CheckSignatureFrom(a.cert) == nil {
			return nil
		}
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: host},
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(a.life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // servers of a cluster call each other
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := os.Remove(path + ".crt"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeKeyPEM(path+".key", key); err != nil {
		return err
	}
	return writeCertificatePEM(path+".crt", template, a.cert, key, a.key)
}

func writeKeyPEM(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a run that was interrupted
		return err
	}
	return writeSecret(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func writeCertificatePEM(path string, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		return err
	}
	return writeSecret(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func readCertificatePEM(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it holds no certificate (PEM)")
	}
	return x509.ParseCertificate(block.Bytes)
}
