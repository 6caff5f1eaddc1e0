package catalog_test

import (
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// TestDamage spoils the files of a catalog one at a time. Opened and read, or read and opened again, it is what the log makes
// of it in the end.
func TestDamage(t *testing.T) {
	disk := vfs.NewMem()
	c := open(t, disk)
	w := &world{t: t, rng: rand.New(rand.NewPCG(1, 2)), now: 1_800_000_000_000}
	w.append(c, events.Event{Fact: &events.LogOpened{Incarnation: events.Incarnation{1}}, Admin: events.Admin{}.Plain()})
	for range 2000 {
		w.step(c)
	}
	want := c.Dump()
	require.NoError(t, c.Close())

	names, err := disk.List("catalog")
	require.NoError(t, err)
	anew := 0
	for _, name := range names {
		for what, spoil := range map[string]func([]byte) []byte{
			"gone":      nil,
			"cut short": func(b []byte) []byte { return b[:len(b)/2] },
			"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b },
			"zeroes":    func(b []byte) []byte { clear(b[len(b)/3:]); return b },
		} {
			t.Run(what+" "+name, func(t *testing.T) {
				spoilt := vfs.NewMem()
				_, err := vfs.Clone(disk, spoilt, "catalog", "catalog")
				require.NoError(t, err)
				spoilFile(t, spoilt, "catalog/"+name, spoil)
				heard := 0
				c, err := catalog.Open("catalog", catalog.Options{FS: spoilt, OnDamage: func(error) { heard++ }})
				require.NoError(t, err)
				_ = dump(c)
				if heard > 0 {
					require.Equal(t, 1, heard)
					_ = c.Close()
					c = open(t, spoilt)
				}
				if c.Position().Seq == 0 {
					anew++
				}
				require.NoError(t, c.Apply(w.log[c.Position().StreamSeq:]))
				require.Equal(t, want, c.Dump())
				require.NoError(t, c.Close())
			})
		}
	}
	require.Positive(t, anew)
}

func spoilFile(t *testing.T, disk vfs.FS, name string, spoil func([]byte) []byte) {
	if spoil == nil {
		require.NoError(t, disk.Remove(name))
		return
	}
	f, err := disk.Open(name)
	require.NoError(t, err)
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	if len(b) == 0 {
		return
	}
	f, err = disk.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(spoil(b))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// dump reads everything there is; nil where that is damaged.
func dump(c *catalog.Catalog) (all map[string]string) {
	defer func() {
		if r := recover(); r != nil && !strings.Contains(r.(error).Error(), "corruption") {
			panic(r)
		}
	}()
	return c.Dump()
}

// A catalog of an older binary is made anew. That of a newer one is left alone: who went back a version may go forward again.
func TestOtherFormats(t *testing.T) {
	disk := vfs.NewMem()
	w := &world{t: t, rng: rand.New(rand.NewPCG(1, 2)), now: 1_800_000_000_000}
	c := open(t, disk)
	w.append(c, events.Event{Fact: &events.LogOpened{Incarnation: events.Incarnation{1}}, Admin: events.Admin{}.Plain()})
	want := c.Dump()
	require.NoError(t, c.StoreFormat(2))
	require.NoError(t, c.Close())

	c = open(t, disk)
	require.Zero(t, c.Position().Seq)
	require.NoError(t, c.Apply(w.log))
	require.Equal(t, want, c.Dump())
	require.NoError(t, c.StoreFormat(99))
	require.NoError(t, c.Close())

	for range 2 {
		_, err := catalog.Open("catalog", catalog.Options{FS: disk})
		require.ErrorContains(t, err, "use the binary that wrote it")
	}
}
