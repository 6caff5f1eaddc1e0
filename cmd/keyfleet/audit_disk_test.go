package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/proof"
)

// A bit flips on the disk of a NATS server. Whatever the server makes of it, dropping one commit or all behind it, silently or not:
// the audit sees what is gone, and names the first Seq of it.
func TestAFlippedBitOnDiskIsFound(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	found := 0
	for range 12 {
		if flipOnDisk(t, random) {
			found++
		}
	}
	require.Positive(t, found, "no flip did any harm: nothing was tested")
}

func flipOnDisk(t *testing.T, random *rand.Rand) (harmful bool) {
	t.Helper()
	var dir string
	s := eventlogtest.StartServer(t, func(o *server.Options) { dir = o.StoreDir })
	nc := s.Connect()
	at, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{})
	require.NoError(t, err)
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{SyncAlways: s.SyncAlways})
	require.NoError(t, err)
	for range 60 {
		e, err := log.Append(t.Context(), at, eventlogtest.NewCommit(t, at, 1+random.IntN(3)))
		require.NoError(t, err)
		at = eventlogtest.Behind(e)
	}
	whole, err := bodiesOf(t, log)
	require.NoError(t, err)
	nc.Close()
	s.Stop()

	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", eventlog.StreamName, "msgs", "*.blk"))
	require.NoError(t, err)
	require.NotEmpty(t, blocks)
	block := blocks[random.IntN(len(blocks))]
	bits, err := os.ReadFile(block)
	require.NoError(t, err)
	bits[random.IntN(len(bits))] ^= 1 << random.IntN(8)
	require.NoError(t, os.WriteFile(block, bits, 0o600))
	// As after a power loss: the server reads its blocks again, and does not go by what it noted at its stop.
	require.NoError(t, os.RemoveAll(filepath.Join(filepath.Dir(block), "index.db")))
	s.Start()
	return auditFinds(t, s.Connect(), whole, at)
}

// auditFinds compares what an audit says with what is there.
func auditFinds(t *testing.T, nc *nats.Conn, whole [][]byte, at events.Position) (harmful bool) {
	t.Helper()
	log, err := eventlog.Open(t.Context(), nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return true // nothing is left: nobody takes that for a log
	}
	left, err := bodiesOf(t, log)
	require.NoError(t, err)
	r, err := proof.NewReplay(proof.Options{})
	require.NoError(t, err)
	err = r.Read(func(yield func(proof.Part) error) error {
		for _, body := range left {
			if err := yield(proof.Part{Commit: body}); err != nil {
				return err
			}
		}
		return nil
	}, func(events.Entry) error { return nil })
	if slices.EqualFunc(left, whole, bytes.Equal) {
		require.NoError(t, err)
		return false
	}
	first := events.Seq(1)
	for i := 0; i < len(left) && bytes.Equal(left[i], whole[i]); i++ {
		c, err := events.DecodeCommit(whole[i])
		require.NoError(t, err)
		first = c.Last() + 1
	}
	if err == nil { // the end is gone, which only a checkpoint can tell
		require.Equal(t, first, r.Position().Seq+1)
		require.Less(t, r.Position().Seq, at.Seq)
		return true
	}
	var fault *proof.Fault
	require.ErrorAs(t, err, &fault)
	require.Equal(t, first, fault.Seq, "%v", err)
	return true
}

func bodiesOf(t *testing.T, log *eventlog.Log) (bodies [][]byte, err error) {
	t.Helper()
	err = log.Scan(t.Context(), func(body []byte) error {
		bodies = append(bodies, bytes.Clone(body))
		return nil
	})
	return bodies, err
}
