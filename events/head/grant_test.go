package head_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden file")

// keyOf makes the same key each time.
func keyOf(seed byte) (ed25519.PrivateKey, events.PublicKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return private, events.PublicKey(private[ed25519.SeedSize:])
}

// a grant in which no two fields are alike.
func sample() head.Grant {
	g := head.Grant{
		Head:   head.Head{Incarnation: events.Incarnation{1, 2}, Seq: 1 << 40, Chain: events.ChainHash{3}},
		Root:   [32]byte{4},
		Term:   5,
		Lease:  10 * time.Minute,
		Mode:   events.ModeServe,
		Nonce:  head.Nonce{6},
		Ticket: head.Ticket{7},
	}
	g.Instance = events.InstanceID{8}
	g.ServeBound, g.AckEvery, g.Attested = 24*time.Hour, 100*time.Millisecond, 1_800_000_000_123
	g.Rebuild = true
	return g
}

func TestGrantsOpenAsTheyWereSigned(t *testing.T) {
	private, public := keyOf(1)
	_, other := keyOf(2)
	denying := sample()
	denying.Mode, denying.ServeBound, denying.Attested, denying.Rebuild = events.ModeDeny, 0, 0, false
	for _, g := range []head.Grant{sample(), denying} {
		signed := g.Sign(private)
		assert.Len(t, signed, head.SignedBytes)
		opened, err := head.Open(signed, other, public)
		require.NoError(t, err)
		assert.Equal(t, g, opened)
	}
}

func TestOnlyPinnedKeysOpenAGrant(t *testing.T) {
	private, _ := keyOf(1)
	_, other := keyOf(2)
	g := sample()
	_, err := head.Open(g.Sign(private), other)
	require.ErrorIs(t, err, head.ErrNotSigned)
	_, err = head.Open(g.Sign(private))
	require.ErrorIs(t, err, head.ErrNotSigned, "nothing is trusted that is not pinned")
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	private, public := keyOf(1)
	g := sample()
	signed := g.Sign(private)
	for bit := range 8 * len(signed) {
		signed[bit/8] ^= 1 << (bit % 8)
		_, err := head.Open(signed, public)
		require.ErrorIs(t, err, head.ErrNotSigned, "bit %d", bit)
		signed[bit/8] ^= 1 << (bit % 8)
	}
	for _, length := range []int{0, 1, head.SignedBytes - 1, head.SignedBytes + 1} {
		_, err := head.Open(make([]byte, length), public)
		require.ErrorIs(t, err, events.ErrMalformed)
	}
}

// A verifier of years ago must open what is signed today, and the other way round.
func TestTheFormOfGrantsNeverChanges(t *testing.T) {
	private, public := keyOf(1)
	g := sample()
	path := filepath.Join("testdata", "grant-1.golden")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(hex.EncodeToString(g.Sign(private))+"\n"), 0o600))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	signed, err := hex.DecodeString(string(bytes.TrimSpace(golden)))
	require.NoError(t, err)
	assert.Equal(t, g.Sign(private), signed)
	opened, err := head.Open(signed, public)
	require.NoError(t, err)
	assert.Equal(t, g, opened)
}

func TestRenewalsSurviveTheWire(t *testing.T) {
	ask := head.Renewal{
		Ack:   head.Ack{Instance: events.InstanceID{1}, Head: sample().Head},
		Nonce: head.Nonce{1}, Ticket: head.Ticket{2}, Newest: []byte{3},
		Join:  &head.Join{PoP: "fra", Mode: events.ModeServe, ServeBound: 5, Version: "v1"},
		State: "serving", Schema: 1, Wall: 1_800_000_000_000, IndexDigest: events.Digest{6}, DigestVersion: 1, WantsToRebuild: true,
	}
	data, err := json.Marshal(ask)
	require.NoError(t, err)
	var read head.Renewal
	require.NoError(t, json.Unmarshal(data, &read))
	assert.Equal(t, ask, read)
	require.NoError(t, json.Unmarshal([]byte(`{"to_come":[1]}`), &read), "a newer verifier may say more")
	require.Error(t, json.Unmarshal([]byte(`{"nonce":"0"}`), &read))
	require.Error(t, json.Unmarshal([]byte(`{"chain":"xx"}`), &read))
}

func FuzzOpen(f *testing.F) {
	private, public := keyOf(1)
	g := sample()
	f.Add(g.Sign(private))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Signed here, so that what stands behind the signature is reached.
		if len(data) != head.SignedBytes {
			return
		}
		body := data[:len(data)-ed25519.SignatureSize]
		signed := append(bytes.Clone(body), ed25519.Sign(private, append([]byte("keyfleet grant 1\n"), body...))...)
		opened, err := head.Open(signed, public)
		if err == nil {
			assert.Equal(t, signed, opened.Sign(private), "one grant, one byte string")
		}
	})
}
