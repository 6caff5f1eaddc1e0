package sealing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const keyBytes = 32 // AES-256

// Keys are sealing keys. The first wraps; all unwrap.
type Keys []wrapper

type wrapper struct {
	id   string // that project_opened names it by
	aead cipher.AEAD
}

// ErrKeys says that a file holds no sealing keys. What it holds is never in the text.
var ErrKeys = errors.New("sealing keys are lines of 64 hexadecimal digits, the newest first, such as openssl rand -hex 32 prints")

// ParseKeys reads sealing keys, one a line. Empty lines and such as begin with # are passed over.
func ParseKeys(text []byte) (Keys, error) {
	var keys Keys
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil || len(key) != keyBytes {
			return nil, ErrKeys
		}
		sum := sha256.Sum256(append([]byte("keyfleet sealing key 1 "), key...))
		keys = append(keys, wrapper{id: "sk_" + hex.EncodeToString(sum[:8]), aead: newAEAD(key)})
	}
	if len(keys) == 0 {
		return nil, ErrKeys
	}
	return keys, nil
}

// newAEAD is AES-GCM with a key of keyBytes, for which it cannot fail.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// wrap encrypts a data key for the project and id that it belongs to.
func (k wrapper) wrap(dataKey []byte, project, id string) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails: it ends the process instead
	return k.aead.Seal(nonce, nonce, dataKey, wrapContext(project, id))
}

func (k wrapper) unwrap(wrapped []byte, project, id string) ([]byte, error) {
	size := k.aead.NonceSize()
	if len(wrapped) < size {
		return nil, fmt.Errorf("data key %s is too short", id)
	}
	dataKey, err := k.aead.Open(nil, wrapped[:size], wrapped[size:], wrapContext(project, id))
	if err != nil || len(dataKey) != keyBytes {
		return nil, fmt.Errorf("data key %s does not open with sealing key %s", id, k.id)
	}
	return dataKey, nil
}

func wrapContext(project, id string) []byte {
	return fmt.Appendf(nil, "keyfleet data key 1 %q %q", project, id)
}
