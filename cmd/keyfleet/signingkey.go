package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

const signingKeyBlock = "PRIVATE KEY" // PKCS #8, as openssl pkey reads it

// findOrMakeSigningKey reads the key in the file, or makes one there.
func findOrMakeSigningKey(path string) (key ed25519.PrivateKey, made bool, err error) {
	key, err = readSigningKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeSigningKey(path)
		return key, err == nil, err
	}
	return key, false, err
}

// readSigningKey reads the private half of the log's key.
func readSigningKey(path string) (ed25519.PrivateKey, error) {
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the signing key: %w; keyfleet init writes it, once in the log's life", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	block, _ := pem.Decode(body)
	if block == nil || block.Type != signingKeyBlock {
		return nil, refusedError(registry.Invalid, "%s is no signing key (PEM, PKCS #8, Ed25519) and is left as it is; name another file", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, refusedError(registry.Invalid, "%s holds a key of another kind than Ed25519 and is left as it is; name another file", path)
	}
	return key, nil
}

// makeSigningKey has the key on disk before anything names it: a log whose signing key was lost in a crash could never
// prove its heads.
func makeSigningKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the signing key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: signingKeyBlock, Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("write the signing key: %w", errors.Join(err, os.Remove(path)))
	}
	return key, nil
}

func publicHalf(key ed25519.PrivateKey) events.PublicKey {
	return events.PublicKey(key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

// logKeys are public halves, as flags have them.
type logKeys []events.PublicKey

func (k *logKeys) String() string {
	if len(*k) == 0 {
		return ""
	}
	return fmt.Sprint(*k)
}

func (k *logKeys) Set(text string) error {
	var key events.PublicKey
	if err := key.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("a log key is 64 hexadecimal digits, as keyfleet init prints it: %w", err)
	}
	*k = append(*k, key)
	return nil
}

func (k *logKeys) Type() string { return "key" }
