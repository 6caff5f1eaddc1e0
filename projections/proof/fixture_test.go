package proof_test

import (
	"bytes"
	"crypto/ed25519"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
)

// keyOf makes the same key each time.
func keyOf(seed byte) (ed25519.PrivateKey, events.PublicKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return private, events.PublicKey(private[ed25519.SeedSize:])
}

// copied is a copy of a log, as somebody may have it.
type copied struct {
	bodies  [][]byte
	commits []*events.Commit
	heads   []proof.Checkpoint // behind each commit
}

func (l *copied) head() proof.Checkpoint { return l.heads[len(l.heads)-1] }

func signed(t testing.TB, c proof.Checkpoint) []byte {
	t.Helper()
	private, _ := keyOf(1)
	note, err := c.Sign(private)
	require.NoError(t, err)
	return note
}

// newLog makes a log of n commits, the same for the same seed.
func newLog(t testing.TB, seed uint64, n int) *copied {
	t.Helper()
	l := &copied{}
	random := rand.New(rand.NewPCG(seed, 1))
	var at events.Position
	var tree proof.Frontier
	for i := range n {
		c := &events.Commit{
			Schema: 1, Incarnation: events.Incarnation{1, byte(seed)}, Term: at.Term,
			First: at.Seq + 1, Parent: at.Chain, Time: at.Time + events.Instant(random.IntN(5000)),
		}
		switch {
		case i == 0:
			_, public := keyOf(1)
			c.Time = 1_790_000_000_000
			require.NoError(t, c.Add(events.Event{Fact: &events.LogOpened{Incarnation: c.Incarnation, SigningKey: public}, Admin: events.Admin{Actor: "tester"}.Plain()}))
		case random.IntN(10) == 0:
			c.Term++
			require.NoError(t, c.Add(events.Event{Fact: &events.TermOpened{Term: c.Term, Registry: "r"}, Admin: events.Admin{Actor: "_r"}.Plain()}))
		default:
			for range 1 + random.IntN(4) {
				require.NoError(t, c.Add(someEvent(random)))
			}
		}
		body, err := c.Encode()
		require.NoError(t, err)
		at, err = at.Next(events.Entry{Commit: c, Chain: events.HashCommit(body)})
		require.NoError(t, err)
		for i := range c.Events() {
			tree.Add(c.Leaf(i))
		}
		l.bodies, l.commits = append(l.bodies, body), append(l.commits, c)
		l.heads = append(l.heads, proof.CheckpointAt(at, tree.Root()))
	}
	return l
}

func newRandom() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }

func someEvent(random *rand.Rand) events.Event {
	f := &events.Created{ExpiresAt: events.Never, Deployments: []events.DeploymentID{{1}}}
	e := events.Event{Project: "demo", Rev: 1, Fact: f, Admin: events.Admin{Actor: "tester"}.Plain()}
	for i := range f.Digest {
		f.Digest[i] = byte(random.Uint32())
	}
	for i := range e.Subject {
		e.Subject[i] = byte(random.Uint32()) | 1
	}
	return e
}

// source gives a copy as a stream does.
func source(bodies [][]byte) proof.Source {
	return func(yield func(proof.Part) error) error {
		for _, b := range bodies {
			if err := yield(proof.Part{Commit: b}); err != nil {
				return err
			}
		}
		return nil
	}
}

// archive writes a copy as a file, with a checkpoint behind each of the commits at marks.
func (l *copied) archive(t testing.TB, marks ...int) []byte {
	t.Helper()
	var file bytes.Buffer
	_, public := keyOf(1)
	a, err := proof.NewArchive(&file, l.commits[0].Incarnation, public)
	require.NoError(t, err)
	for i, body := range l.bodies {
		require.NoError(t, a.Commit(body))
		if slices.Contains(marks, i) {
			require.NoError(t, a.Checkpoint(signed(t, l.heads[i])))
		}
	}
	require.NoError(t, a.End(signed(t, l.head())))
	return file.Bytes()
}

// verify holds a copy against checkpoints.
func verify(t testing.TB, src proof.Source, opts proof.Options) (proof.Verified, error) {
	t.Helper()
	r, err := proof.NewReplay(opts)
	require.NoError(t, err)
	if err := r.Read(src, func(events.Entry) error { return nil }); err != nil {
		return proof.Verified{}, err
	}
	return r.End()
}
