package snapshot

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
)

func sample() Manifest {
	return Manifest{
		Position:      events.Position{Incarnation: events.Incarnation{1}, Seq: 7, Term: 2, Time: 1700000000000, StreamSeq: 5},
		DigestVersion: 1, Digest: events.Digest{3},
		Tables: []Table{
			{Digest: events.Digest{4}, Size: 5, First: []byte("a"), Last: []byte("c")},
			{Digest: events.Digest{5}, Size: 6, First: []byte("d"), Last: []byte("d")},
		},
	}
}

func TestManifestComesBackAsItWas(t *testing.T) {
	m := sample()
	signed, err := m.sign(signer)
	require.NoError(t, err)
	_, stranger := key(2)
	back, err := Open(signed, stranger, public)
	require.NoError(t, err)
	require.Equal(t, m, back)
	_, err = Open(signed, stranger)
	require.ErrorIs(t, err, ErrNotSigned)
	_, err = Open(signed)
	require.ErrorIs(t, err, ErrNotSigned)
	for i := range signed {
		for bit := range 8 {
			wrong := bytes.Clone(signed)
			wrong[i] ^= 1 << bit
			_, err := Open(wrong, public)
			require.ErrorIs(t, err, ErrNotSigned)
		}
	}
}

// What is on the shelf must be read by later builds: another form needs another tag.
func TestManifestHasThisForm(t *testing.T) {
	m := sample()
	m.Tables = m.Tables[:1]
	signed, err := m.sign(signer)
	require.NoError(t, err)
	lines := strings.SplitN(string(signed), "\n", 3)
	require.Equal(t, "keyfleet snapshot 1", lines[0])
	require.Len(t, lines[1], 128)
	zeros := strings.Repeat("0", 62)
	require.JSONEq(t, `{"position":{"incarnation":"inc_04000000000000000000000000","seq":7,"chain":"00`+zeros+`",
		"term":2,"time":"2023-11-14T22:13:20Z","stream_seq":5},"digest_version":1,"digest":"03`+zeros+`",
		"tables":[{"digest":"04`+zeros+`","size":5,"first":"YQ==","last":"Yw=="}]}`, lines[2])
	require.Equal(t, "manifest-0001700000000000-00000000000000000007", m.name())
}

func TestManifestIsStrict(t *testing.T) {
	for name, change := range map[string]func(m *Manifest){
		"no seq":         func(m *Manifest) { m.Position.Seq = 0 },
		"no incarnation": func(m *Manifest) { m.Position.Incarnation = events.Incarnation{} },
		"never":          func(m *Manifest) { m.Position.Time = events.Never },
		"no tables":      func(m *Manifest) { m.Tables = nil },
		"out of order":   func(m *Manifest) { m.Tables[0], m.Tables[1] = m.Tables[1], m.Tables[0] },
		"overlapping":    func(m *Manifest) { m.Tables[0].Last = []byte("d") },
		"backwards":      func(m *Manifest) { m.Tables[0].Last = []byte("A") },
		"no size":        func(m *Manifest) { m.Tables[0].Size = 0 },
		"huge":           func(m *Manifest) { m.Tables[0].Size = maxTable + 1 },
	} {
		m := sample()
		change(&m)
		_, err := m.sign(signer)
		require.ErrorIs(t, err, events.ErrMalformed, name)
	}
	m := sample()
	body, err := m.encode()
	require.NoError(t, err)
	for _, wrong := range [][]byte{
		append(bytes.Clone(body), ' '), bytes.Replace(body, []byte(`"digest"`), []byte(`"Digest"`), 1),
		bytes.Replace(body, []byte(`{"position"`), []byte(`{"more":1,"position"`), 1), body[1:], nil, []byte("null"),
	} {
		_, err := decode(wrong)
		require.ErrorIs(t, err, events.ErrMalformed)
	}
}

// Whatever decodes is encoded to the same bytes again: one form for one manifest.
func FuzzManifest(f *testing.F) {
	m := sample()
	body, err := m.encode()
	require.NoError(f, err)
	signed, err := m.sign(signer)
	require.NoError(f, err)
	f.Add(body)
	f.Add(signed)
	f.Add([]byte(`{"position":{"seq":1},"tables":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Manifest
		var err error
		fuzztest.Frugally(t, len(data), 0, func() { m, err = decode(data) })
		if err == nil {
			again, err := m.encode()
			require.NoError(t, err)
			require.Equal(t, data, again)
		} else {
			require.ErrorIs(t, err, events.ErrMalformed)
		}
		fuzztest.Frugally(t, len(data), 0, func() { _, err = Open(data, public) })
		if err != nil && !isOfManifest(err) {
			t.Fatal(err)
		}
	})
}
