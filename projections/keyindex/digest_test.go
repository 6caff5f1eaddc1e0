package keyindex

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

// plainDigest adds up what is stored with numbers of any size.
func plainDigest(t testing.TB, idx *Index) (d events.Digest) {
	total := new(big.Int)
	for key, value := range dump(t, idx) {
		if key == string(positionKey) {
			continue
		}
		record := append(binary.AppendUvarint(nil, uint64(len(key))), key...)
		record = append(binary.AppendUvarint(record, uint64(len(value))), value...)
		one := sha256.Sum256(record)
		slices.Reverse(one[:]) // big.Int reads the highest byte first
		total.Add(total, new(big.Int).SetBytes(one[:]))
	}
	total.Mod(total, new(big.Int).Lsh(big.NewInt(1), 256)).FillBytes(d[:])
	slices.Reverse(d[:])
	return d
}

func digestOf(idx *Index) events.Digest {
	_, digest := idx.Digest()
	return digest
}

// However the log is cut into batches and whenever the index is opened anew, the digest at one Seq is the same.
func TestDigestDependsOnThePrefixAlone(t *testing.T) {
	h := newHistory(t, newSeed())
	log := []events.Entry{h.open()}
	for range 300 {
		log = append(log, h.next(12))
	}
	at := map[events.Seq]events.Digest{}
	single := openIndex(t, t.TempDir(), small(nil))
	for i := range log {
		require.NoError(t, single.Apply(log[i:i+1]))
		position, digest := single.Digest()
		at[position.Seq] = digest
	}
	require.Equal(t, plainDigest(t, single), digestOf(single))
	for range 4 {
		dir := t.TempDir()
		for rest := log; len(rest) > 0; {
			idx, err := Open(dir, small(nil))
			require.NoError(t, err)
			for range 1 + h.r.IntN(20) {
				n := min(1+h.r.IntN(15), len(rest))
				require.NoError(t, idx.Apply(rest[:n]))
				rest = rest[n:]
				position, digest := idx.Digest()
				require.Equal(t, at[position.Seq], digest, "Seq %d", position.Seq)
				if len(rest) == 0 {
					break
				}
			}
			require.NoError(t, idx.Close())
		}
	}
}

// Verifiers of different builds compare their digests: once released, what gives this one another value, such as a new
// field of projections.Charter, needs a new DigestVersion and formatNumber.
func TestDigestIsTheSameInEveryBuild(t *testing.T) {
	h := newHistory(t, 1)
	idx := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	for range 50 {
		require.NoError(t, idx.Apply([]events.Entry{h.next(10)}))
	}
	require.Equal(t, 1, DigestVersion)
	require.Equal(t, "3ccbb5c95db65537835cb80337316363e7747a55ed05ea59a5d8d736e6ca8412", digestOf(idx).String())
}

// A record that was damaged and then written anew leaves the digest wrong: all others of the fleet see it.
func TestDamageOutlivesTheDamagedRecord(t *testing.T) {
	h := newHistory(t, newSeed())
	healthy, damaged := openIndex(t, t.TempDir(), small(nil)), openIndex(t, t.TempDir(), small(nil))
	dep, id := h.id(), events.KeyID(h.id())
	both := func(entries ...events.Entry) {
		require.NoError(t, healthy.Apply(entries))
		require.NoError(t, damaged.Apply(entries))
	}
	both(h.open(), h.commit(
		h.tell("demo", dep, &events.DeploymentRegistered{Name: "echo"}),
		h.tell("demo", id, &events.Created{Digest: h.bytes32(), ExpiresAt: 1}),
	))
	require.Equal(t, digestOf(healthy), digestOf(damaged))

	k := *h.keys[id]
	k.ExpiresAt = events.Never
	require.NoError(t, damaged.db.Set(digestKey(k.Digest), appendKey(nil, &k), pebble.NoSync))
	both(h.commit(h.tell("demo", id, &events.ExpiryChanged{ExpiresAt: 2})))
	require.Equal(t, dump(t, healthy)[string(digestKey(k.Digest))], dump(t, damaged)[string(digestKey(k.Digest))])
	require.NotEqual(t, digestOf(healthy), digestOf(damaged))
	both(h.commit(h.tell("demo", id, &events.Deleted{})))
	require.NotEqual(t, digestOf(healthy), digestOf(damaged))
	require.NoError(t, healthy.Scrub(t.Context(), 0))
	require.ErrorIs(t, damaged.Scrub(t.Context(), 0), ErrDiverged)
}

func TestOlderFormatBeginsEmpty(t *testing.T) {
	h := newHistory(t, newSeed())
	dir := t.TempDir()
	idx, err := Open(dir, small(nil))
	require.NoError(t, err)
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	require.NoError(t, idx.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, formatFile), []byte("keyfleet keyindex 1\n"), 0o600))
	idx = openIndex(t, dir, small(nil))
	require.Zero(t, idx.Position())
	line, err := os.ReadFile(filepath.Join(dir, formatFile))
	require.NoError(t, err)
	require.Equal(t, formatLine(), string(line))
}
