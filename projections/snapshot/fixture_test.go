package snapshot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

const smallTables = 4 << 10

var errCut = errors.New("the connection is cut")

// shelf keeps objects in memory. After so many calls as cut says, if it is positive, every further one fails.
type shelf struct {
	mu      sync.Mutex
	objects map[string][]byte
	got     []string
	calls   int
	cut     int
}

func newShelf() *shelf { return &shelf{objects: map[string][]byte{}} }

func (s *shelf) call(ctx context.Context) error {
	if s.calls++; s.cut > 0 && s.calls > s.cut {
		return errCut
	}
	return ctx.Err()
}

// cutAfter lets so many further calls pass; 0 lets all pass.
func (s *shelf) cutAfter(calls int) { s.calls, s.cut, s.got = 0, calls, nil }

func (s *shelf) List(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.objects)), s.call(ctx)
}

func (s *shelf) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, found := s.objects[name]
	if !found {
		return nil, fs.ErrNotExist
	}
	s.got = append(s.got, name)
	return io.NopCloser(bytes.NewReader(content)), s.call(ctx)
}

func (s *shelf) Put(ctx context.Context, name string, content io.Reader) error {
	all, err := io.ReadAll(content)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(err, s.call(ctx)); err != nil {
		return err
	}
	s.objects[name] = all
	return nil
}

func (s *shelf) Delete(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(ctx); err != nil {
		return err
	}
	delete(s.objects, name)
	return nil
}

// key is that of the registry in a test.
func key(seed byte) (ed25519.PrivateKey, events.PublicKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return private, events.PublicKey(private.Public().(ed25519.PublicKey))
}

var signer, public = key(1)

// journal writes a log of keys that open one deployment. What it makes follows from its number alone.
type journal struct {
	t        testing.TB
	number   uint64
	position events.Position
	made     uint64
}

func (j *journal) bytes32() [32]byte {
	j.made++
	return sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, j.number), j.made))
}

func (j *journal) id() [16]byte { b := j.bytes32(); return [16]byte(b[:16]) }

func (j *journal) commit(es ...events.Event) events.Entry {
	c := &events.Commit{
		Schema: events.Schema, Incarnation: j.position.Incarnation, First: j.position.Seq + 1,
		Parent: j.position.Chain, Time: j.position.Time + 10,
	}
	if opened, opens := es[0].Fact.(*events.LogOpened); opens {
		c.Incarnation = opened.Incarnation
	}
	require.NoError(j.t, c.Add(es...))
	entry := events.Entry{Commit: c, Chain: j.bytes32(), StreamSeq: j.position.StreamSeq + 1}
	var err error
	j.position, err = j.position.Next(entry)
	require.NoError(j.t, err)
	return entry
}

func newJournal(t testing.TB, number uint64) (*journal, events.Entry) {
	j := &journal{t: t, number: number}
	return j, j.commit(events.Event{Fact: &events.LogOpened{Incarnation: j.id(), SigningKey: public}})
}

// keys is a commit of so many new keys.
func (j *journal) keys(n int) events.Entry {
	es := make([]events.Event, n)
	for i := range es {
		es[i] = events.Event{Project: "demo", Subject: j.id(), Rev: 1, Fact: &events.Created{
			Digest: j.bytes32(), Deployments: []events.DeploymentID{{1}}, ExpiresAt: events.Never,
		}}
	}
	return j.commit(es...)
}

func openIndex(t testing.TB, dir string, entries ...events.Entry) *keyindex.Index {
	idx, err := keyindex.Open(dir, keyindex.Options{CacheBytes: 8 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, idx.Close()) })
	require.NoError(t, idx.Apply(entries))
	return idx
}

func options(t testing.TB) Options {
	return Options{Pinned: []events.PublicKey{public}, Staging: filepath.Join(t.TempDir(), "staging")}
}

// shelved is a log, an index of all of it, and a snapshot of that on a shelf.
func shelved(t testing.TB) (*journal, *keyindex.Index, *shelf, Manifest) {
	j, opened := newJournal(t, 1)
	idx := openIndex(t, t.TempDir(), opened, j.keys(300))
	objects := newShelf()
	m, err := build(t.Context(), idx, objects, signer, smallTables)
	require.NoError(t, err)
	require.Greater(t, len(m.Tables), 4)
	return j, idx, objects, m
}
