package proof_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
)

// tlog keeps every hash; a frontier must agree with it at every size.
func TestFrontierAgreesWithTheWholeTree(t *testing.T) {
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (found []tlog.Hash, _ error) {
		for _, i := range at {
			found = append(found, stored[i])
		}
		return found, nil
	})
	random := rand.New(rand.NewPCG(1, 2))
	var f proof.Frontier
	for n := range int64(1100) {
		assert.EqualValues(t, n, f.Size())
		want, err := tlog.TreeHash(n, read)
		require.NoError(t, err)
		if n == 0 {
			want = tlog.Hash(f.Root()) // tlog has no tree of nothing; RFC 6962 does
			assert.Equal(t, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", f.Root().String())
		}
		require.Equal(t, [32]byte(want), [32]byte(f.Root()), "size %d", n)

		data, err := f.MarshalBinary()
		require.NoError(t, err)
		var again proof.Frontier
		require.NoError(t, again.UnmarshalBinary(data))
		require.Equal(t, f, again)
		require.ErrorIs(t, again.UnmarshalBinary(data[:len(data)-1]), events.ErrMalformed)
		require.ErrorIs(t, again.UnmarshalBinary(append(data, make([]byte, 32)...)), events.ErrMalformed)
		require.Equal(t, f, again, "what fails changes nothing")

		leaf := binary.BigEndian.AppendUint64(make([]byte, random.IntN(100)), random.Uint64())
		hashes, err := tlog.StoredHashes(n, leaf, read)
		require.NoError(t, err)
		stored = append(stored, hashes...)
		f = again // a tree that was stored goes on as the one it was
		f.Add(leaf)
	}
}
