package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
)

// access is how a NATS server is reached: as whom, and how it is known to be the right one.
type access struct{ creds, tlsCA string }

func (a *access) addTo(f *pflag.FlagSet) {
	f.StringVar(&a.creds, "creds", "", "NATS credentials file")
	f.StringVar(&a.tlsCA, "tls-ca", "", "file with the certificates by which NATS servers are known; TLS is insisted on then")
}

func (a *access) options() ([]nats.Option, error) {
	signIn, err := withCredentials(a.creds)
	if err != nil || a.tlsCA == "" {
		return signIn, err
	}
	file, err := os.ReadFile(a.tlsCA)
	if err != nil {
		return nil, flagError("tls-ca", "%v", err)
	}
	known := x509.NewCertPool()
	if !known.AppendCertsFromPEM(file) {
		return nil, flagError("tls-ca", "%s holds no certificate (PEM)", a.tlsCA)
	}
	return append(signIn, nats.Secure(&tls.Config{RootCAs: known, MinVersion: tls.VersionTLS13})), nil
}

// certificateEnd is when the certificate ends by which the NATS server is known.
func certificateEnd(nc *nats.Conn) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keyfleet_registry_nats_certificate_expiry_timestamp_seconds",
		Help: "When the certificate of the NATS server that it is connected to ends, as Unix time; 0 without TLS.",
	}, func() float64 {
		state, err := nc.TLSConnectionState()
		if err != nil || len(state.PeerCertificates) == 0 {
			return 0
		}
		return float64(state.PeerCertificates[0].NotAfter.Unix())
	})
}

// isUnknownAuthority reports whether a server's certificate is signed by nobody that is believed.
func isUnknownAuthority(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}

// withCredentials signs in as the user of a credentials file, and has answers sent where only that user may listen.
func withCredentials(path string) ([]nats.Option, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, flagError("creds", "%v", err)
	}
	signed, err := jwt.ParseDecoratedJWT(file)
	if err != nil {
		return nil, flagError("creds", "%s: %v", path, err)
	}
	user, err := jwt.DecodeUserClaims(signed)
	if err != nil {
		return nil, flagError("creds", "%s holds no NATS user: %v", path, err)
	}
	return []nats.Option{nats.UserCredentials(path), nats.CustomInboxPrefix(inboxOf(user.Subject))}, nil
}

// inboxOf is where answers to a user go: nobody else may listen there.
func inboxOf(user string) string { return "_INBOX." + user }
