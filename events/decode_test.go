package events

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/fuzztest"
)

// TestTruncated cuts a commit at every byte and appends to it: always an error.
func TestTruncated(t *testing.T) {
	body, err := sampleCommit(t).Encode()
	require.NoError(t, err)
	for i := range body {
		_, err := DecodeCommit(body[:i])
		require.ErrorIs(t, err, ErrMalformed, "cut at byte %d", i)
	}
	_, err = DecodeCommit(append(body, 0xc0))
	require.ErrorIs(t, err, ErrMalformed)
}

func TestUnknown(t *testing.T) {
	body, err := sampleCommit(t).Encode()
	require.NoError(t, err)
	body[1] = 2
	_, err = DecodeCommit(body)
	require.ErrorIs(t, err, ErrUnknownSchema)

	_, err = DecodeEvent([]byte{0x96, 0xa3, 'n', 'e', 'w', 0xa0, 0xc0, 0x00, 0x90, 0x93})
	require.ErrorIs(t, err, ErrUnknownType)
}

// TestHostile has what a decoder may be fed: each is refused, and at little cost.
func TestHostile(t *testing.T) {
	deleted := func(edge ...byte) []byte {
		head := []byte{0x96, 0xa7, 'd', 'e', 'l', 'e', 't', 'e', 'd', 0xa0, 0xc0, 0x00}
		return append(append(head, edge...), 0x93, 0xa0, 0xc4, 0x00, 0xc4, 0x00)
	}
	_, err := DecodeEvent(deleted(0x90))
	require.NoError(t, err, "what the cases below are made of")
	cases := map[string][]byte{
		"an unknown field":    deleted(0x91, 0x01),
		"nested arrays":       deleted(0x91, 0x91, 0x91, 0x91, 0x91, 0x91),
		"a map":               deleted(0x80),
		"nil for an array":    deleted(0xc0),
		"an array bomb":       deleted(0xdd, 0xff, 0xff, 0xff, 0xff),
		"a text bomb":         {0x96, 0xdb, 0xff, 0xff, 0xff, 0xff},
		"an extension type":   {0x96, 0xd4, 0x01, 0x00},
		"a text not in UTF-8": {0x96, 0xa7, 'd', 'e', 'l', 'e', 't', 'e', 'd', 0xa1, 0xff, 0xc0, 0x00, 0x90, 0x93, 0xa0, 0xc4, 0x00, 0xc4, 0x00},
		"a negative revision": {0x96, 0xa7, 'd', 'e', 'l', 'e', 't', 'e', 'd', 0xa0, 0xc0, 0xff, 0x90, 0x93, 0xa0, 0xc4, 0x00, 0xc4, 0x00},
		"an id of other size": {0x96, 0xa7, 'd', 'e', 'l', 'e', 't', 'e', 'd', 0xa0, 0xc4, 0x01, 0x01, 0x00, 0x90, 0x93, 0xa0, 0xc4, 0x00, 0xc4, 0x00},
		"nothing":             {},
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeEvent(data)
			require.ErrorIs(t, err, ErrMalformed)
		})
	}
}

// TestEverySize reads back what is written, on both sides of each bound between two forms.
func TestEverySize(t *testing.T) {
	sizes := []int{0, 1, 31, 32, 255, 256, 65_535, 65_536}
	uints := []uint64{0, 127, 128, 255, 256, 65_535, 65_536, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	instants := []Instant{Never, 0, -1, -32, -33, -128, -129, -1 << 15, -1<<15 - 1, -1 << 31, -1<<31 - 1, 1<<62 - 1}
	for _, n := range uints[:9] {
		instants = append(instants, Instant(n))
	}
	w := newWriter()
	for _, n := range sizes {
		text, bin, ids := strings.Repeat("x", n), make([]byte, n), slices.Repeat([]DeploymentID{{1}}, n/8)
		w.text(&text)
		w.bin(&bin)
		w.deployments(&ids)
	}
	for i := range uints {
		w.uint(&uints[i])
	}
	for i := range instants {
		w.instant(&instants[i])
	}
	require.NoError(t, w.err)

	r := newReader(w.buf.Bytes())
	for _, n := range sizes {
		var text string
		var bin []byte
		var ids []DeploymentID
		r.text(&text)
		r.bin(&bin)
		r.deployments(&ids)
		require.NoError(t, r.err)
		require.Equal(t, []int{n, n, n / 8}, []int{len(text), len(bin), len(ids)})
	}
	for _, want := range uints {
		var got uint64
		r.uint(&got)
		require.Equal(t, want, got)
	}
	for _, want := range instants {
		var got Instant
		r.instant(&got)
		require.Equal(t, want, got)
	}
	require.NoError(t, r.end())
}

func TestSeal(t *testing.T) {
	block, err := aes.NewCipher(make([]byte, 32))
	require.NoError(t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(t, err)
	name := "demo-key"
	admin := Admin{Actor: "alice", Name: &name}
	e := Event{Project: "acme", Subject: [16]byte{1}, Rev: 1, Fact: &Created{ExpiresAt: Never}}
	e.Admin = admin.Seal(&e, "dk-1", aead)
	keys := func(id string) cipher.AEAD {
		if id == "dk-1" {
			return aead
		}
		return nil
	}
	opened, err := e.Open(keys)
	require.NoError(t, err)
	assert.Equal(t, admin, opened)

	_, err = e.Open(nil)
	require.ErrorIs(t, err, ErrSealed)
	for what, change := range map[string]func(*Event){
		"another project": func(e *Event) { e.Project = "evil" },
		"another subject": func(e *Event) { e.Subject[0]++ },
		"another rev":     func(e *Event) { e.Rev++ },
		"another fact":    func(e *Event) { e.Fact = &Created{} },
		"another type":    func(e *Event) { e.Fact = &Deleted{} },
		"a short nonce":   func(e *Event) { e.Admin.Nonce = e.Admin.Nonce[1:] },
	} {
		moved := e
		change(&moved)
		_, err := moved.Open(keys)
		require.ErrorIs(t, err, ErrMalformed, what)
	}
}

func TestAddIsAllOrNothing(t *testing.T) {
	c := &Commit{First: 1}
	big := samples()[9]
	for {
		before := len(c.Events())
		err := c.Add(big, big, big)
		if errors.Is(err, ErrCommitFull) {
			assert.Len(t, c.Events(), before)
			break
		}
		require.NoError(t, err)
	}
	body, err := c.Encode()
	require.NoError(t, err)
	assert.LessOrEqual(t, len(body), MaxCommitBytes)
}

func FuzzDecodeCommit(f *testing.F) {
	for _, e := range samples() { // one each: small seeds, for the fuzzer makes them smaller byte by byte
		c := &Commit{Schema: 1, First: 1}
		if err := c.Add(e); err != nil {
			f.Fatal(err)
		}
		body, err := c.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := frugally(t, data, DecodeCommit)
		if err != nil {
			return
		}
		again, err := c.Encode()
		require.NoError(t, err)
		require.Equal(t, data, again, "one commit has one byte string")
	})
}

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range samples() {
		b, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := frugally(t, data, DecodeEvent)
		if err != nil {
			return
		}
		again, err := e.Encode()
		require.NoError(t, err)
		require.Equal(t, data, again, "one event has one byte string")
		_, _ = e.Open(nil)
	})
}

// frugally decodes and holds what was allocated for it against the input's length.
func frugally[T any](t *testing.T, data []byte, decode func([]byte) (T, error)) (T, error) {
	var v T
	var err error
	fuzztest.Frugally(t, len(data), 0, func() { v, err = decode(data) })
	return v, err
}

// BenchmarkDecodeCommit reads a full commit of keys that were created.
func BenchmarkDecodeCommit(b *testing.B) {
	c := &Commit{Schema: 1, First: 1}
	name := "night-batch"
	admin := Admin{Actor: "alice", CommandID: "01JZ8Q4T7RZ0V5", Name: &name}.Plain()
	for range MaxCommitEvents {
		created := &Created{Digest: Digest(bytes.Repeat([]byte{0xd1}, 32)), Deployments: []DeploymentID{{1}}, ExpiresAt: Never}
		require.NoError(b, c.Add(Event{Project: "demo", Subject: NewID(), Rev: 1, Fact: created, Admin: admin}))
	}
	body, err := c.Encode()
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		_, err := DecodeCommit(body)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(MaxCommitEvents)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
