package proof_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
)

// benchLog is a log of commits of 100 events each, as a busy registry writes them.
func benchLog(b *testing.B, commits int) (*copied, int) {
	b.Helper()
	l := newLog(b, 1, 1)
	at := events.Position{Incarnation: l.head().Incarnation, Seq: 1, Chain: l.head().Chain, Time: l.head().Time}
	var tree proof.Frontier
	tree.Add(l.commits[0].Leaf(0))
	random := newRandom()
	for range commits {
		c := &events.Commit{Schema: 1, Incarnation: at.Incarnation, First: at.Seq + 1, Parent: at.Chain, Time: at.Time}
		for range 100 {
			require.NoError(b, c.Add(someEvent(random)))
		}
		body, err := c.Encode()
		require.NoError(b, err)
		at, err = at.Next(events.Entry{Commit: c, Chain: events.HashCommit(body)})
		require.NoError(b, err)
		for i := range c.Events() {
			tree.Add(c.Leaf(i))
		}
		l.bodies, l.commits, l.heads = append(l.bodies, body), append(l.commits, c), append(l.heads, proof.CheckpointAt(at, tree.Root()))
	}
	return l, int(at.Seq)
}

// BenchmarkVerify is the whole of it, and each stage by itself on one core. events/s says how fast.
func BenchmarkVerify(b *testing.B) {
	l, n := benchLog(b, 1000)
	_, public := keyOf(1)
	file := l.archive(b)
	stages := []struct {
		name string
		do   func() error
	}{
		{"archive", func() error {
			_, err := verify(b, proof.ReadArchive(bytes.NewReader(file)), proof.Options{Keys: []events.PublicKey{public}})
			return err
		}},
		{"stream", func() error {
			_, err := verify(b, source(l.bodies), proof.Options{})
			return err
		}},
		{"stage=unpack", func() error {
			return proof.ReadArchive(bytes.NewReader(file))(func(proof.Part) error { return nil })
		}},
		{"stage=decode", func() error {
			for _, body := range l.bodies {
				if _, err := events.DecodeCommit(body); err != nil {
					return err
				}
			}
			return nil
		}},
		{"stage=chain", func() error {
			for _, body := range l.bodies {
				events.HashCommit(body)
			}
			return nil
		}},
		{"stage=tree", func() error {
			var f proof.Frontier
			for _, c := range l.commits {
				for i := range c.Events() {
					f.Add(c.Leaf(i))
				}
			}
			return nil
		}},
		{"stage=pack", func() error {
			a, err := proof.NewArchive(io.Discard, l.head().Incarnation, public)
			for _, body := range l.bodies {
				if err == nil {
					err = a.Commit(body)
				}
			}
			return err
		}},
	}
	for _, s := range stages {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.do(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
