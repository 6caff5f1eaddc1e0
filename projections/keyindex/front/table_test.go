package front

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

func newTable(t testing.TB, limit int64) *Table {
	t.Helper()
	table, err := New(limit, 0)
	require.NoError(t, err)
	return table
}

// digest n of a family: those of one family share their first 8 bytes, and so their home.
func digest(family, n uint64) (d events.Digest) {
	binary.BigEndian.PutUint64(d[:8], family)
	binary.BigEndian.PutUint64(d[8:16], n)
	return d
}

func entry(n uint64) (e Entry) {
	binary.BigEndian.PutUint64(e.Key[8:], n+1)
	e.Project, e.ExpiresAt = uint32(n%MaxProjects), events.Instant(n)-5
	e.Disabled, e.Expired = n%2 == 1, n%3 == 1
	for i := range e.Deployments {
		e.Deployments[i] = uint16(n + uint64(i))
	}
	return e
}

func TestAnEntryIsFoundAsItWasPut(t *testing.T) {
	table := newTable(t, 1<<20)
	extreme := Entry{Key: events.KeyID{15: 255}, Project: MaxProjects - 1, Disabled: true, Expired: true, ExpiresAt: events.Never}
	for i := range extreme.Deployments {
		extreme.Deployments[i] = 1<<16 - 1
	}
	d := digest(1<<63, 1)
	for _, want := range []Entry{extreme, entry(0), {Key: extreme.Key, ExpiresAt: -1}} {
		table.Drop(&d)
		require.NoError(t, table.Put(&d, &want))
		var got Entry
		require.Equal(t, Found, table.Look(&d, &got))
		require.Equal(t, want, got)
	}
	other := digest(1<<63, 2)
	require.Equal(t, Absent, table.Look(&other, &Entry{}))
	table.Drop(&d)
	require.Equal(t, Absent, table.Look(&d, &Entry{}))
}

// A map is the model. Families make chains long, and few families make them longer than a look goes.
func TestTableIsAMap(t *testing.T) {
	for _, families := range []int{1, 3, 1 << 14} {
		t.Run(fmt.Sprint(families, " families"), func(t *testing.T) {
			seed := rand.Uint64()
			t.Log("seed", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			table, model := newTable(t, 64<<20), map[events.Digest]Entry{}
			var all [10_000]events.Digest // few enough that what is looked for is often there
			for n := range all {
				all[n] = digest(uint64(r.IntN(families))*0x9e3779b97f4a7c15, uint64(n))
			}
			random := func() events.Digest { return all[r.IntN(len(all))] }
			look := func(d events.Digest) {
				want, there := model[d]
				var got Entry
				switch table.Look(&d, &got) {
				case Found:
					require.True(t, there)
					require.Equal(t, want, got)
				case Absent:
					require.False(t, there)
				case Ask:
					require.NotEqual(t, 1<<14, families, "chains are short where digests are")
				}
			}
			for range 40_000 {
				d := random()
				switch n := r.Uint64N(1 << 30); r.IntN(5) {
				case 0:
					table.Drop(&d)
					delete(model, d)
				case 1:
					if e, there := model[d]; there { // the same key changes
						e.Disabled, e.ExpiresAt = !e.Disabled, events.Instant(n)
						require.NoError(t, table.Put(&d, &e))
						model[d] = e
					}
				default:
					if _, there := model[d]; !there {
						e := entry(n)
						require.NoError(t, table.Put(&d, &e))
						model[d] = e
					}
				}
				look(random())
			}
			for _, d := range all {
				look(d)
			}
			require.Positive(t, len(model))
		})
	}
}

func TestWhatTwoKeysShareIsLeftToTheIndex(t *testing.T) {
	table := newTable(t, 1<<20)
	d, one, two := digest(7, 7), entry(1), entry(2)
	require.NoError(t, table.Put(&d, &one))
	require.NoError(t, table.Put(&d, &two))
	require.Equal(t, Ask, table.Look(&d, &Entry{}))
	table.Drop(&d)
	require.Equal(t, Ask, table.Look(&d, &Entry{}), "whose was dropped?")
	require.NoError(t, table.Put(&d, &one))
	require.Equal(t, Ask, table.Look(&d, &Entry{}))

	alias := digest(8, 8)
	require.NoError(t, table.Leave(&alias, one.Key))
	require.Equal(t, Ask, table.Look(&alias, &Entry{}))
	require.NoError(t, table.Put(&alias, &one), "the key fits now")
	require.Equal(t, Found, table.Look(&alias, &Entry{}))
	require.NoError(t, table.Leave(&alias, one.Key))
	table.Drop(&alias)
	require.Equal(t, Absent, table.Look(&alias, &Entry{}))
}

func TestTheTableKeepsToItsMemory(t *testing.T) {
	table := newTable(t, 3*smallest*slotBytes)
	var err error
	n := uint64(0)
	for ; err == nil; n++ {
		d, e := digest(n<<44, n), entry(n)
		err = table.Put(&d, &e)
		require.LessOrEqual(t, table.Bytes(), int64(2*smallest*slotBytes))
	}
	require.ErrorIs(t, err, ErrFull)
	require.Greater(t, n, uint64(smallest))
	_, err = New(100, 0)
	require.ErrorIs(t, err, ErrFull)

	// Room is made of what went, for ever.
	table = newTable(t, 2*smallest*slotBytes)
	for n := range uint64(20 * smallest) {
		d, e := digest(n<<44, n), entry(n)
		require.NoError(t, table.Put(&d, &e))
		table.Drop(&d)
	}
}

func TestATableWithRoomForItsKeysDoesNotGrow(t *testing.T) {
	const keys = 2 * smallest
	table, err := New(3*keys*slotBytes/2, keys) // no room to copy it
	require.NoError(t, err)
	for n := range uint64(keys) {
		d, e := digest(n<<51, n), entry(n)
		require.NoError(t, table.Put(&d, &e))
	}
}

// A reader that was stopped in the middle of a slot, while the writer went over it once or more, sees by the version that it did: it
// is even again, and another one, whatever was written. TestReadersSeeWholeEntries seldom stops one for that long.
func TestEachWriteHasAnotherVersion(t *testing.T) {
	var s slot
	seen := map[uint64]bool{0: true}
	for n := range uint64(1000) {
		e := entry(n % 2)
		words := e.words(prefix{1, 2})
		write(&s, &words)
		version := s[0] & versionMask
		require.Zero(t, version&1, "the slot is left as if it was being written")
		require.False(t, seen[version], "write %d gives version %d again", n, version)
		require.Equal(t, words[0]&^versionMask, s[0]&^versionMask)
		seen[version] = true
	}
}

// Readers beside a writer see whole entries, and never an older one than was there when they began. Both halves of an entry
// say its number; a torn read would mix them.
func TestReadersSeeWholeEntries(t *testing.T) {
	const keys = 50
	table := newTable(t, 8<<20)
	var settled [keys]atomic.Uint64 // what was put last, once Put had returned
	put := func(key, n uint64) {
		d := digest(key<<58, key)
		e := entry(n)
		binary.BigEndian.PutUint64(e.Key[8:], key+1)
		e.ExpiresAt = events.Instant(n)
		if err := table.Put(&d, &e); err != nil {
			t.Error(err)
		}
		settled[key].Store(n)
	}
	for key := range uint64(keys) {
		put(key, 1)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := i % keys
				d := digest(key<<58, key)
				least := settled[key].Load()
				var e Entry
				switch table.Look(&d, &e) {
				case Absent:
					t.Error("a key went missing")
					return
				case Ask: // the writer was stopped in the middle of a slot
					continue
				case Found:
				}
				n := uint64(e.ExpiresAt)
				want := entry(n)
				if n < least || e.Deployments != want.Deployments || e.Disabled != want.Disabled || e.Project != want.Project {
					t.Errorf("saw %+v, when %d was settled", e, least)
					return
				}
			}
		})
	}
	extra := uint64(0)
	for n := uint64(2); n < 4000; n++ {
		put(n%keys, n)
		for range 10 { // the table grows, and is made anew, under the readers
			extra++
			d, e := digest(extra*0x9e3779b97f4a7c15, extra), entry(extra)
			require.NoError(t, table.Put(&d, &e))
		}
	}
	close(stop)
	readers.Wait()
}
