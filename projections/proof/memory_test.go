package proof_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/proof"
)

// endless makes commits of 500 events as they are asked for, and keeps none.
func endless(t *testing.T, commits int) proof.Source {
	t.Helper()
	return func(yield func(proof.Part) error) error {
		l := newLog(t, 1, 1)
		at := events.Position{Incarnation: l.head().Incarnation, Seq: 1, Chain: l.head().Chain, Time: l.head().Time}
		if err := yield(proof.Part{Commit: l.bodies[0]}); err != nil {
			return err
		}
		random := newRandom()
		for range commits {
			c := &events.Commit{Schema: 1, Incarnation: at.Incarnation, First: at.Seq + 1, Parent: at.Chain, Time: at.Time}
			for range 500 {
				if err := c.Add(someEvent(random)); err != nil {
					return err
				}
			}
			body, err := c.Encode()
			if err != nil {
				return err
			}
			if at, err = at.Next(events.Entry{Commit: c, Chain: events.HashCommit(body)}); err != nil {
				return err
			}
			if err := yield(proof.Part{Commit: body}); err != nil {
				return err
			}
		}
		return nil
	}
}

// What is alive while a log is read does not grow with the log: this one is some 60 MB, and several times that decoded.
func TestMemoryDoesNotGrowWithTheLog(t *testing.T) {
	const most = 48 << 20
	r, err := proof.NewReplay(proof.Options{})
	require.NoError(t, err)
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	before, shown := memory.HeapAlloc, 0
	require.NoError(t, r.Read(endless(t, 800), func(events.Entry) error {
		if shown++; shown%100 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&memory)
			if memory.HeapAlloc > before+most {
				t.Errorf("behind %d commits %d MiB are in use", shown, (memory.HeapAlloc-before)>>20)
			}
		}
		return nil
	}))
	v, err := r.End()
	require.NoError(t, err)
	require.EqualValues(t, 801, v.Commits)
}
