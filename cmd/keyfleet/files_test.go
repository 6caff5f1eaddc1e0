package main

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/fuzztest"
)

// FuzzFilesThatOperatorsGive reads whatever stands where a key, credentials or certificates should: it is taken or refused, and what is
// refused, which may be a secret in the wrong place, is not shown.
func FuzzFilesThatOperatorsGive(f *testing.F) {
	dir := f.TempDir()
	key := filepath.Join(dir, "signing.pem")
	_, err := makeSigningKey(key)
	require.NoError(f, err)
	pem, err := os.ReadFile(key)
	require.NoError(f, err)
	ca, err := keyring{dir}.authority()
	require.NoError(f, err)
	account, err := keyring{dir}.account("some")
	require.NoError(f, err)
	creds := filepath.Join(dir, "some.creds")
	require.NoError(f, account.issue(creds, "some", rights{publish: []string{"x"}}))
	user, err := os.ReadFile(creds)
	require.NoError(f, err)
	for _, text := range [][]byte{pem, ca.pem, user, []byte("# newest first\n" + strings.Repeat("0a", 32) + "\n"), []byte(`{"nats":"nats://127.0.0.1:1"}`)} {
		f.Add(text)
	}
	file := filepath.Join(dir, "given.nk")
	const base = 4 << 20 // certificates and credentials have tables of their own
	f.Fuzz(func(t *testing.T, text []byte) {
		require.NoError(t, os.WriteFile(file, text, 0o600))
		fuzztest.Frugally(t, len(text), base, func() {
			private, err := readSigningKey(file)
			require.NotEqual(t, err == nil, private == nil)
			require.True(t, err != nil || len(private) == ed25519.PrivateKeySize)
			quiet(t, text, err)
			_, err = readSealingKeys(file)
			quiet(t, text, err)
			_, err = (&access{creds: file, tlsCA: file}).options()
			quiet(t, text, err)
			_, err = (&access{tlsCA: file}).options()
			quiet(t, text, err)
			_, err = keyring{dir}.find("given", nkeys.CreateOperator)
			quiet(t, text, err)
			_, err = readDevFile(file)
			quiet(t, text, err)
		})
	})
}

// quiet holds that an error does not tell what a file holds, in any 24 characters in a row.
func quiet(t *testing.T, text []byte, err error) {
	t.Helper()
	const shown = 24
	if err == nil {
		return
	}
	for said := err.Error(); len(said) >= shown; said = said[1:] {
		require.NotContains(t, string(text), said[:shown])
	}
}
