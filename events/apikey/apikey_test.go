package apikey

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGenerate(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := Generate()
		text := s.Reveal()
		require.Regexp(t, `^kf_[0-9A-Za-z]{49}$`, text)
		require.True(t, WellFormed([]byte(text)))
		require.False(t, seen[text])
		seen[text] = true
		assert.Equal(t, sha256.Sum256([]byte(text)), [32]byte(s.Digest()))
		assert.Equal(t, text[:7]+"…"+text[42:46], s.Hint())
		assert.True(t, IsOwnHint(s.Hint()))
	}
}

// TestChecksum holds the format to its description, by another way than the code's.
func TestChecksum(t *testing.T) {
	text := Generate().Reveal()
	sum := uint64(crc32.ChecksumIEEE([]byte(text[:46])))
	var last [6]byte
	for i := 5; i >= 0; i-- {
		last[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[sum%62]
		sum /= 62
	}
	assert.Equal(t, string(last[:]), text[46:])
}

// TestTypos changes each character in turn: none of it passes as a key.
func TestTypos(t *testing.T) {
	text := []byte(Generate().Reveal())
	for i := range text {
		for _, c := range []byte{'0', 'z', 'Q', '-', 0, 0xff} {
			if typo := append([]byte(nil), text...); typo[i] != c {
				typo[i] = c
				require.False(t, WellFormed(typo), "%q", typo)
			}
		}
	}
	for _, other := range []string{"", "kf_", string(text[:51]), string(text) + "0", " " + string(text[1:])} {
		_, err := Parse(other)
		require.ErrorIs(t, err, ErrForm, "%q", other)
	}
	s, err := Parse(string(text))
	require.NoError(t, err)
	assert.Equal(t, string(text), s.Reveal())
}

func TestSecretRedactsItself(t *testing.T) {
	s := Generate()
	type holder struct{ S Secret }
	asJSON, err := json.Marshal(holder{s})
	require.NoError(t, err)
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "secret", s, "in", holder{s})
	var outputs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		outputs = append(outputs, fmt.Sprintf(verb, s), fmt.Sprintf(verb, holder{s}), fmt.Sprintf(verb, &s))
	}
	for _, out := range append(outputs, string(asJSON), logged.String(), fmt.Sprint(s), fmt.Errorf("%w %v", ErrForm, s).Error()) {
		assert.NotContains(t, out, s.Reveal()[3:10])
		assert.NotContains(t, out, fmt.Sprintf("%x", s.Reveal()[3:10]))
	}
}

func TestEqual(t *testing.T) {
	s := Generate()
	same, err := Parse(s.Reveal())
	require.NoError(t, err)
	assert.True(t, s.Equal(same))
	assert.False(t, s.Equal(Generate()))
}

func TestForeignHints(t *testing.T) {
	for _, hint := range []string{"", "sk-abcd…wxyz", "kf_abcd…", "kf_abcd...wxyz", "kf_ab!d…wxyz", "abcd…wxyz"} {
		assert.False(t, IsOwnHint(hint), hint)
	}
}

func FuzzWellFormed(f *testing.F) {
	f.Add([]byte(Generate().Reveal()))
	f.Add([]byte("kf_"))
	f.Fuzz(func(t *testing.T, presented []byte) {
		_, err := Parse(string(presented))
		require.Equal(t, WellFormed(presented), err == nil)
	})
}
