package natsapi_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// everything has each field that a request can have.
func everything() registry.Request {
	text, rev := "text\n\"é\"", uint64(1<<63)
	return registry.Request{
		CommandID: "c1", Key: "k", Name: "n", Description: &text, Deployments: &[]string{"a", "b"}, ExpiresAt: &text,
		Grace: &text, Digest: "d", Hint: "kf_aaaa…zzzz", ExpectRev: &rev, Role: "r", Scope: "s", Upstream: &text, Host: &text,
		Limit: 7, Offset: 1 << 40, OrderBy: "-name", Search: "q", Wait: "confirmed", WaitTimeout: "30d",
	}
}

func TestRequestsAreReadAsWritten(t *testing.T) {
	empty := ""
	for _, want := range []registry.Request{{}, everything(), {Description: &empty, Deployments: &[]string{}}, {Limit: -3}} {
		data := jsonOf(t, want)
		got, err := natsapi.DecodeRequest(data, false)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		got, err = natsapi.DecodeRequest(packed(t, want), true)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, nothing := range []string{"", " \n", "{}", `{"description":null,"name":null,"deployments":null}`} {
		got, err := natsapi.DecodeRequest([]byte(nothing), false)
		require.NoError(t, err, nothing)
		assert.Equal(t, registry.Request{}, got, nothing)
	}
}

func TestRequestsAreReadStrictly(t *testing.T) {
	for _, c := range []struct{ body, field, says string }{
		{`{"colour":"red"}`, "colour", "no field"},
		{`{"Name":"demo-key"}`, "Name", "no field"},
		{`{"name":"demo-key","name":"other"}`, "name", "twice"},
		{`{"name":17}`, "name", "a text, not a number"},
		{`{"description":{"a":1}}`, "description", "a text, not a object"},
		{`{"deployments":"llama"}`, "deployments", "a list of texts, not a string"},
		{`{"deployments":[1]}`, "deployments", "a list of texts, not a number"},
		{`{"limit":1.5}`, "limit", "a whole number"},
		{`{"limit":1e99}`, "limit", "a whole number"},
		{`{"expect_rev":-1}`, "expect_rev", "a whole number, 0 or more"},
		{`{"expect_rev":18446744073709551616}`, "expect_rev", "a whole number, 0 or more"},
		{`{"name":"demo-key"} {}`, "", "behind"},
		{`{"name":"demo-key"}]`, "", "behind"},
		{`{"name":"demo-key"`, "", "unexpected end"},
		{`{"name":`, "", "unexpected end"},
		{`{"n\u0061me":"demo-key","name":"other"}`, "name", "twice"},
		{`{"name":"\\\"","colou\u0072":"red"}`, "colour", "no field"},
		{`{"deployments":["a,{","b"],"colour":{"name":1}}`, "colour", "no field"},
		{" 17", "", "not a JSON object"},
		{`{"name" "demo-key"}`, "", "not a JSON object"},
		{`{"name":"demo-key",}`, "", "not a JSON object"},
		{`{17:"demo-key"}`, "", "not a JSON object"},
		{`[]`, "", "not a JSON object"},
		{`null`, "", "not a JSON object"},
		{"{\"name\":\"\xff\"}", "", "UTF-8"},
		{`{"name":"` + strings.Repeat("x", 64<<10) + `"}`, "", "at most"},
		{strings.Repeat("[", 60_000), "", "not a JSON object"},
		{`{"name":` + strings.Repeat("[", 60_000), "", "not a JSON object"},
	} {
		_, err := natsapi.DecodeRequest([]byte(c.body), false)
		requireRefusal(t, registry.Invalid, c.says, err)
		assert.Equal(t, c.field, registry.AsRefusal(err).Field, "%.40s", c.body)
	}
}

func TestMsgpackIsReadStrictly(t *testing.T) {
	for _, c := range []struct {
		body  any
		field string
	}{
		{map[string]any{"colour": "red"}, "colour"},
		{map[string]any{"name": 17}, "name"},
		{map[string]any{"deployments": "llama"}, "deployments"},
		{map[string]any{"expect_rev": -1}, "expect_rev"},
		{map[string]any{"limit": true}, "limit"},
		{map[string]any{"limit": 1.5}, ""},
		{map[string]any{"name": []byte("demo-key")}, ""},
		{map[string]any{"deployments": []any{[]byte("llama")}}, ""},
		{map[string]any{"name": "\xff"}, ""},
		{map[string]any{"deployments": []any{[]any{}}}, ""},
		{map[int]string{1: "name"}, ""},
		{[]string{"name"}, ""},
		{nil, ""},
	} {
		data, err := msgpack.Marshal(c.body)
		require.NoError(t, err)
		_, err = natsapi.DecodeRequest(data, true)
		requireRefusal(t, registry.Invalid, "", err)
		assert.Equal(t, c.field, registry.AsRefusal(err).Field, "%v", c.body)
	}
}

func TestListsAreBounded(t *testing.T) {
	list := func(n int) registry.Request {
		names := make([]string, n)
		for i := range names {
			names[i] = `a,["`
		}
		return registry.Request{Description: new(strings.Repeat(",", 2000)), Deployments: &names}
	}
	for _, encoded := range []struct {
		encode    func(testing.TB, any) []byte
		asMsgpack bool
	}{{jsonOf, false}, {packed, true}} {
		got, err := natsapi.DecodeRequest(encoded.encode(t, list(1000)), encoded.asMsgpack)
		require.NoError(t, err)
		assert.Equal(t, list(1000), got)
		_, err = natsapi.DecodeRequest(encoded.encode(t, list(1001)), encoded.asMsgpack)
		requireRefusal(t, registry.Invalid, "deployments has more than 1000 entries", err)
		assert.Equal(t, "deployments", registry.AsRefusal(err).Field)
	}
	_, err := natsapi.DecodeRequest([]byte(`{"deployments":[`+strings.Repeat(`"",`, 1500)+`]}`), false)
	requireRefusal(t, registry.Invalid, "not a JSON object", err)
}

// FuzzDecodeRequest: what is read at all reads the same when it is written again, in either encoding.
func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"name":"demo-key","deployments":["llama"],"limit":3}`), false)
	f.Add([]byte("\x82\xa4name\xa8demo-key\xabdeployments\x91\xa5llama"), true)
	f.Fuzz(func(t *testing.T, data []byte, asMsgpack bool) {
		var r registry.Request
		var err error
		fuzztest.Frugally(t, len(data), fuzztest.Msgpack, func() { r, err = natsapi.DecodeRequest(data, asMsgpack) })
		if err != nil {
			requireRefusal(t, registry.Invalid, "", err)
			return
		}
		for _, rewritten := range []struct {
			data      []byte
			asMsgpack bool
		}{{jsonOf(t, r), false}, {packed(t, r), true}} {
			again, err := natsapi.DecodeRequest(rewritten.data, rewritten.asMsgpack)
			require.NoError(t, err)
			require.Equal(t, r, again)
		}
	})
}

func BenchmarkDecodeRequest(b *testing.B) {
	data := []byte(`{"command_id":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","name":"key-000000001","deployments":["llama"],` +
		`"digest":"` + strings.Repeat("ab", 32) + `","hint":"kf_aaaa…zzzz"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := natsapi.DecodeRequest(data, false); err != nil {
			b.Fatal(err)
		}
	}
}
