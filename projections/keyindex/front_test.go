package keyindex

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/keyindex/front"
	"github.com/keyfleet/keyfleet/projections/seen"
)

// requireFront holds every answer that the front has a part in against the store's.
func (h *history) requireFront(idx *Index) {
	h.t.Helper()
	digests := []events.Digest{{1}, h.bytes32()}
	for _, k := range h.keys {
		digests = append(digests, k.Digest, k.Grace.Digest)
	}
	deployments := []*Deployment{nil}
	for d := range idx.Deployments().All() {
		deployments = append(deployments, d)
	}
	for _, digest := range digests {
		k, err := idx.Find(digest)
		require.NoError(h.t, err)
		for _, d := range deployments {
			for _, now := range []events.Instant{0, k.ExpiresAt - 1, k.ExpiresAt, k.Grace.Until, events.Never} {
				var id events.DeploymentID
				if d != nil {
					id = d.ID
				}
				got, err := idx.Decide(digest, d, now)
				require.NoError(h.t, err)
				want := projections.Decision{Reason: projections.Allow(&k, digest, id, now), Key: k.ID, Project: k.Project}
				require.Equal(h.t, want, got)
			}
		}
	}
}

func TestTheFrontAnswersAsTheStoreDoes(t *testing.T) {
	for range 4 {
		h := newHistory(t, newSeed())
		dir := t.TempDir()
		idx, err := Open(dir, small(nil))
		require.NoError(t, err)
		require.NoError(t, idx.Apply([]events.Entry{h.open()}))
		for round := range 60 {
			require.NoError(t, idx.Apply([]events.Entry{h.next(1 + h.r.IntN(30))}))
			h.requireFront(idx)
			h.renewNow(idx)
			if round%10 == 9 { // filled anew, beside what goes on
				require.NoError(t, idx.Close())
				idx, err = Open(dir, small(nil))
				require.NoError(t, err)
				h.requireFront(idx)
			}
		}
		idx.filling.Wait()
		require.NotNil(t, idx.front.Load())
		h.requireKnown(idx)
		require.NoError(t, idx.Close())
		_, err = idx.Decide(events.Digest{}, nil, 0)
		require.ErrorIs(t, err, ErrClosed)
	}
}

// The front is given its room by how many keys are stored: growing takes three times the memory for a moment.
func TestStoredKeysAreCounted(t *testing.T) {
	h := newHistory(t, 1)
	dir := t.TempDir()
	idx := openIndex(t, dir, Options{})
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	const keys = 5000
	h.createKeys(idx, keys)
	require.NoError(t, idx.Close())
	idx = openIndex(t, dir, Options{})
	require.InDelta(t, keys, storedKeys(idx.db), 10)
}

func (h *history) createKeys(idx *Index, n int) {
	for range n / 500 {
		es := make([]events.Event, 500)
		for i := range es {
			es[i] = events.Event{Project: "demo", Subject: h.id(), Rev: 1, Fact: &events.Created{Digest: h.bytes32(), ExpiresAt: events.Never}}
			k := &projections.Key{}
			require.NoError(h.t, k.Evolve(&es[i]))
			h.keys[k.ID] = k
		}
		require.NoError(h.t, idx.Apply([]events.Entry{h.commit(es...)}))
	}
}

// A verifier that was away long applies more, while its front is filled, than the store had when that began.
func TestAFrontFilledBesideALongReplayKnowsWhatIsUnknown(t *testing.T) {
	h := newHistory(t, 1)
	idx := openIndex(t, t.TempDir(), Options{FrontBytes: 64 << 20})
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	h.createKeys(idx, 5000)
	idx.filling.Wait()
	idx.front.Store(nil)
	var err error
	idx.fill, err = newFiller(64<<20, 5000, 5000)
	require.NoError(t, err)
	require.True(t, idx.fillOn(t.Context()))
	h.createKeys(idx, 60_000)
	for idx.fillOn(t.Context()) {
	}
	for range 1000 {
		d := events.Digest(h.bytes32())
		require.Equal(t, front.Absent, idx.front.Load().table.Look(&d, &front.Entry{}))
	}
}

// A front that may not be there twice, to grow, is filled anew as large as it may be, while all goes on; and given up when that is full.
func TestAFrontThatCannotGrowIsFilledAnew(t *testing.T) {
	const slots = 12_288 // it grows from 4,096 to 7,875 of them, and then there is no room for both
	logged := &bytes.Buffer{}
	h := newHistory(t, 1)
	idx := openIndex(t, t.TempDir(), Options{FrontBytes: slots * 64, Log: slog.New(slog.NewTextHandler(logged, nil))})
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	idx.filling.Wait()
	h.createKeys(idx, 5500)
	require.False(t, idx.front.Load().table.Full())
	before := weak.Make(idx.front.Load().table)
	h.createKeys(idx, 2500)
	idx.filling.Wait()
	runtime.GC()
	require.Nil(t, before.Value(), "its memory is given back")
	require.True(t, idx.front.Load().table.Full())
	require.Equal(t, 1, strings.Count(logged.String(), "filled anew"), logged)
	for _, k := range h.keys {
		require.Equal(t, front.Found, idx.front.Load().table.Look(&k.Digest, &front.Entry{}))
	}
	h.createKeys(idx, 1500)
	idx.filling.Wait()
	require.Nil(t, idx.front.Load())
	h.requireKnown(idx)
	require.Equal(t, 1, strings.Count(logged.String(), "more keys than the front has memory for"), logged)
}

// Without a front, what changes ask for and is not stored is mostly known not to be, and what is stored never.
func TestWithoutAFrontWhatIsUnknownIsKnown(t *testing.T) {
	h := newHistory(t, newSeed())
	dir := t.TempDir()
	opts := small(nil)
	opts.FrontBytes = -1
	idx := openIndex(t, dir, opts)
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	for round := range 60 {
		require.NoError(t, idx.Apply([]events.Entry{h.next(1 + h.r.IntN(30))}))
		h.renewNow(idx)
		if round%10 == 9 { // filled anew, beside what goes on
			require.NoError(t, idx.Close())
			idx = openIndex(t, dir, opts)
		}
	}
	require.Nil(t, idx.front.Load())
	h.requireKnown(idx)
	require.NoError(t, idx.Close())
}

// renewNow has the filters filled anew if that is not going on and they are whole. It does not wait.
func (h *history) renewNow(idx *Index) {
	idx.apply.Lock()
	defer idx.apply.Unlock()
	if idx.fill.done && idx.fill.renewal == nil {
		idx.renew()
	}
}

// Keys that come and go, and secrets that are rotated, leave the filters no larger than what is there needs.
func TestFiltersForgetWhatIsGone(t *testing.T) {
	for _, of := range []struct {
		frontBytes int64
		filter     func(*filler) *seen.Filter
	}{
		{0, func(f *filler) *seen.Filter { return f.ids }},
		{-1, func(f *filler) *seen.Filter { return f.ids }},
		{-1, func(f *filler) *seen.Filter { return f.known }},
	} {
		h := newHistory(t, newSeed())
		idx := openIndex(t, t.TempDir(), Options{FrontBytes: of.frontBytes})
		require.NoError(t, idx.Apply([]events.Entry{h.open()}))
		h.createKeys(idx, 1000)
		idx.filling.Wait()
		filter := of.filter(idx.fill)
		showGone(filter)
		h.createKeys(idx, 500) // and then more
		idx.filling.Wait()
		require.Less(t, of.filter(idx.fill).Len(), 2000)
		require.Equal(t, 1500, idx.fill.count)
		h.requireKnown(idx)
		h.createKeys(idx, 500)
		require.Nil(t, idx.fill.renewal, "once is enough")
		h.requireKnown(idx)
	}
}

// What changes while filters are filled anew is known to them, on both sides of where that has come to.
func TestFiltersFilledAnewBesideTheWriter(t *testing.T) {
	for _, frontBytes := range []int64{0, -1} {
		h := newHistory(t, newSeed())
		idx := openIndex(t, t.TempDir(), Options{FrontBytes: frontBytes})
		require.NoError(t, idx.Apply([]events.Entry{h.open()}))
		h.createKeys(idx, 5000)
		idx.filling.Wait()
		renewByHand(idx)
		require.True(t, idx.fillOn(t.Context()))
		h.createKeys(idx, 500)
		for idx.fillOn(t.Context()) {
		}
		require.Nil(t, idx.fill.renewal)
		h.requireKnown(idx)
	}
}

// showGone is as if so many had been created and deleted that the filter is to be filled anew.
func showGone(filter *seen.Filter) {
	for n := range mostGone + mostGone/4 {
		filter.Add(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
}

// A store that cannot be read costs no more than the memory: the front and the filters go on, and it is not read again and again.
func TestFiltersThatCannotBeFilledAnew(t *testing.T) {
	h := newHistory(t, 1)
	idx := openIndex(t, t.TempDir(), Options{})
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	h.createKeys(idx, 500)
	idx.filling.Wait()
	require.NoError(t, idx.db.Set(digestKey(events.Digest{1}), []byte("no record"), pebble.NoSync))
	showGone(idx.fill.ids)
	require.True(t, idx.fill.mostlyGone())
	renewByHand(idx)
	require.False(t, idx.fillOn(t.Context()))
	require.Nil(t, idx.fill.renewal)
	require.False(t, idx.fill.mostlyGone())
	require.NotNil(t, idx.front.Load())
	h.requireKnown(idx)
	h.createKeys(idx, 500)
	h.requireKnown(idx)
}

// renewByHand leaves it to the caller to fill on.
func renewByHand(idx *Index) {
	open, end := idx.open, idx.end
	defer func() { idx.open, idx.end = open, end }()
	idx.open, idx.end = context.WithCancel(open)
	idx.end()
	idx.renew()
	idx.filling.Wait()
}

// A front that is lost for want of memory leaves behind what the writer is told. A store that cannot be read ends that too, and is not
// read again and again.
func TestAFrontIsLost(t *testing.T) {
	h := newHistory(t, 1)
	idx := openIndex(t, t.TempDir(), small(nil))
	require.NoError(t, idx.Apply([]events.Entry{h.open()}))
	h.createKeys(idx, 500)
	idx.filling.Wait()
	lose := func() {
		idx.apply.Lock()
		idx.loseFront(errors.New("no memory"))
		idx.apply.Unlock()
		idx.filling.Wait()
		require.Nil(t, idx.front.Load())
	}
	lose()
	h.requireKnown(idx)

	require.NoError(t, idx.db.Set(digestKey(events.Digest{1}), []byte("no record"), pebble.NoSync))
	idx.apply.Lock()
	idx.startFilling(64<<20, 500, 500)
	idx.apply.Unlock()
	idx.filling.Wait()
	require.Nil(t, idx.front.Load())
	require.Nil(t, idx.fill)
	h.createKeys(idx, 500)
	require.NoError(t, idx.Close())
}

// requireKnown looks at what the writer is told of an index without a front.
func (h *history) requireKnown(idx *Index) {
	idx.filling.Wait()
	require.True(h.t, idx.fill.done)
	for id, k := range h.keys {
		if k.Exists() {
			require.False(h.t, idx.fill.lacksKey(id))
			require.False(h.t, idx.fill.lacks(k.Digest))
		}
	}
	const asked = 1000
	unknown := 0
	for range asked {
		if idx.fill.lacksKey(h.id()) && idx.fill.lacks(h.bytes32()) {
			unknown++
		}
	}
	require.Greater(h.t, unknown, asked/2)
}
