package events

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// TestRecords: nouns stand in records as bytes and integers, and come back as they were.
func TestRecords(t *testing.T) {
	type record struct {
		ID     KeyID
		Digest Digest
		Chain  ChainHash
		Public PublicKey
		At     Instant
	}
	want := record{KeyID{1}, Digest{2}, ChainHash{3}, PublicKey{4}, Never}
	data, err := msgpack.Marshal(want)
	require.NoError(t, err)
	var got record
	require.NoError(t, msgpack.Unmarshal(data, &got))
	assert.Equal(t, want, got)
	assert.NotContains(t, string(data), want.ID.String())

	var id KeyID
	require.ErrorIs(t, id.DecodeMsgpack(msgpack.NewDecoder(bytes.NewReader([]byte{0xc4, 1, 0}))), ErrMalformed)
}
