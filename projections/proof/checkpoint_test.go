package proof_test

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections/proof"
)

func TestCheckpointsOpenAsTheyWereSigned(t *testing.T) {
	private, public := keyOf(1)
	other, otherPublic := keyOf(2)
	want := newLog(t, 1, 9).head()
	data, err := want.Sign(private)
	require.NoError(t, err)
	got, by, err := proof.OpenCheckpoint(data, otherPublic, public)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, public, by)
	_, _, err = proof.OpenCheckpoint(data, otherPublic)
	require.ErrorIs(t, err, proof.ErrNotSigned)
	_, _, err = proof.OpenCheckpoint(data)
	require.ErrorIs(t, err, proof.ErrNotSigned, "nothing is trusted that is not named")

	byOther, err := want.Sign(other)
	require.NoError(t, err)
	witnessed := append(bytes.Clone(data), byOther[bytes.LastIndex(byOther, []byte("—")):]...)
	got, by, err = proof.OpenCheckpoint(witnessed, public)
	require.NoError(t, err, "signatures of others are passed over")
	assert.Equal(t, want, got)
	assert.Equal(t, public, by)
}

func TestNoFlippedBitMakesACheckpointSaySomethingElse(t *testing.T) {
	private, public := keyOf(1)
	c := newLog(t, 1, 9).head()
	data, err := c.Sign(private)
	require.NoError(t, err)
	for bit := range 8 * len(data) {
		data[bit/8] ^= 1 << (bit % 8)
		got, _, err := proof.OpenCheckpoint(data, public)
		require.True(t, err != nil || got == c, "bit %d makes it say something else", bit) // base64 leaves two bits of a signature unused
		data[bit/8] ^= 1 << (bit % 8)
	}
}

// Tools that know only C2SP's formats read them.
func TestCheckpointsAreSignedNotes(t *testing.T) {
	private, public := keyOf(1)
	c := newLog(t, 1, 9).head()
	data, err := c.Sign(private)
	require.NoError(t, err)
	vkey, err := note.NewEd25519VerifierKey("keyfleet/"+c.Incarnation.String(), ed25519.PublicKey(public[:]))
	require.NoError(t, err)
	verifier, err := note.NewVerifier(vkey)
	require.NoError(t, err)
	opened, err := note.Open(data, note.VerifierList(verifier))
	require.NoError(t, err)
	lines := strings.Split(opened.Text, "\n")
	assert.Equal(t, "keyfleet/"+c.Incarnation.String(), lines[0])
	assert.Equal(t, "21", lines[1])
}

// What was signed or written years ago is read today.
func TestTheFormsNeverChange(t *testing.T) {
	private, public := keyOf(1)
	l := newLog(t, 1, 9)
	c := l.head()
	data, err := c.Sign(private)
	require.NoError(t, err)
	checkpointFile, archiveFile := filepath.Join("testdata", "checkpoint-1.golden"), filepath.Join("testdata", "archive-1.golden")
	if *rewrite {
		require.NoError(t, os.WriteFile(checkpointFile, data, 0o600))
		require.NoError(t, os.WriteFile(archiveFile, l.archive(t, 4), 0o600))
	}
	golden, err := os.ReadFile(checkpointFile)
	require.NoError(t, err)
	assert.Equal(t, string(golden), string(data))
	file, err := os.ReadFile(archiveFile)
	require.NoError(t, err)
	v, err := verify(t, proof.ReadArchive(bytes.NewReader(file)), proof.Options{Keys: []events.PublicKey{public}, Pins: [][]byte{golden}})
	require.NoError(t, err)
	assert.Equal(t, c, v.Checkpoint)
}

// Every proof in logs of many sizes, and what becomes of it when a bit of it is another.
func TestProofsProveWhatIsSoAndNothingElse(t *testing.T) {
	l := newLog(t, 1, 40)
	_, public := keyOf(1)
	leaves := leavesOf(l)
	for i, head := range l.heads {
		note := signed(t, head)
		for seq := events.Seq(1); seq <= head.Seq; seq += 3 {
			p, err := proof.ProveInclusion(head.Seq, seq)
			require.NoError(t, err)
			hashes := prove(t, p, leaves[:head.Seq])
			text, err := (&proof.Inclusion{Seq: seq, Leaf: leaves[seq-1], Hashes: hashes, Checkpoint: note}).MarshalText()
			require.NoError(t, err)
			got, under, err := proof.OpenInclusion(text, public)
			require.NoError(t, err)
			assert.Equal(t, head, under)
			assert.Equal(t, leaves[seq-1], got.Leaf)
			assert.Equal(t, seq, got.Seq)

			text, err = (&proof.Inclusion{Seq: seq, Leaf: append([]byte{0}, leaves[seq-1]...), Hashes: hashes, Checkpoint: note}).MarshalText()
			require.NoError(t, err)
			_, _, err = proof.OpenInclusion(text, public)
			require.ErrorIs(t, err, proof.ErrNotProven)
		}
		for _, old := range l.heads[:i+1] {
			p, err := proof.ProveGrowth(head.Seq, old.Seq)
			require.NoError(t, err)
			text, err := (&proof.Growth{Old: old.Seq, Hashes: prove(t, p, leaves[:head.Seq]), Checkpoint: note}).MarshalText()
			require.NoError(t, err)
			got, err := proof.OpenGrowth(text, old, public)
			require.NoError(t, err)
			assert.Equal(t, head, got)
			old.Root[7] ^= 1
			_, err = proof.OpenGrowth(text, old, public)
			require.ErrorIs(t, err, proof.ErrNotProven)
		}
	}
}

func TestFlippedBitsOfProofsAreSeen(t *testing.T) {
	l := newLog(t, 1, 40)
	_, public := keyOf(1)
	leaves := leavesOf(l)
	p, err := proof.ProveInclusion(l.head().Seq, 17)
	require.NoError(t, err)
	text, err := (&proof.Inclusion{Seq: 17, Leaf: leaves[16], Hashes: prove(t, p, leaves), Checkpoint: signed(t, l.head())}).MarshalText()
	require.NoError(t, err)
	for bit := range 8 * len(text) {
		text[bit/8] ^= 1 << (bit % 8)
		got, _, err := proof.OpenInclusion(text, public)
		require.True(t, err != nil || got.Seq == 17 && bytes.Equal(got.Leaf, leaves[16]), "bit %d proves something else", bit)
		text[bit/8] ^= 1 << (bit % 8)
	}
	_, err = proof.ProveInclusion(5, 6)
	require.Error(t, err)
	_, err = proof.ProveGrowth(5, 6)
	require.Error(t, err)
	_, err = proof.ProveInclusion(5, 0)
	require.Error(t, err)
}

func leavesOf(l *copied) (leaves [][]byte) {
	for _, c := range l.commits {
		for i := range c.Events() {
			leaves = append(leaves, c.Leaf(i))
		}
	}
	return leaves
}

func prove(t testing.TB, p *proof.Prover, leaves [][]byte) []proof.Root {
	t.Helper()
	for _, leaf := range leaves {
		p.Add(leaf)
	}
	hashes, err := p.Hashes()
	require.NoError(t, err)
	return hashes
}

// FuzzProofs has lines of a proof, of whoever is not the log, over a checkpoint that the log has signed.
func FuzzProofs(f *testing.F) {
	l := newLog(f, 1, 40)
	_, public := keyOf(1)
	note := signed(f, l.head())
	old := l.heads[7]
	leaves := leavesOf(l)
	growth, err := proof.ProveGrowth(l.head().Seq, old.Seq)
	require.NoError(f, err)
	grown, err := (&proof.Growth{Old: old.Seq, Hashes: prove(f, growth, leaves)}).MarshalText()
	require.NoError(f, err)
	inclusion, err := proof.ProveInclusion(l.head().Seq, 17)
	require.NoError(f, err)
	included, err := (&proof.Inclusion{Seq: 17, Leaf: leaves[16], Hashes: prove(f, inclusion, leaves)}).MarshalText()
	require.NoError(f, err)
	f.Add(grown)
	f.Add(included)
	f.Fuzz(func(t *testing.T, lines []byte) {
		text := slices.Concat(lines, note)
		fuzztest.Frugally(t, len(text), 0, func() {
			if p, _, err := proof.OpenInclusion(text, public); err == nil {
				require.Equal(t, leaves[p.Seq-1], p.Leaf)
			}
			if c, err := proof.OpenGrowth(text, old, public); err == nil {
				require.Equal(t, l.head(), c)
			}
		})
	})
}
