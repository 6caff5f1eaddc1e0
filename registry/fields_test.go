package registry

import (
	"encoding/json"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFieldsOfVerbs: what the rules name are fields, and there is a bit for each.
func TestFieldsOfVerbs(t *testing.T) {
	assert.Less(t, len(fieldNames), 64)
	for v, rule := range verbs {
		of := fieldsOf[v]
		assert.Equal(t, len(strings.Fields(rule.allowed())), bits.OnesCount64(uint64(of.allowed)), v)
		assert.Equal(t, len(strings.Fields(rule.required)), bits.OnesCount64(uint64(of.required)), v)
		assert.Zero(t, of.required&^of.allowed, v)
	}
	rev := uint64(0)
	r := Request{Name: "demo-key", ExpectRev: &rev}
	assert.Equal(t, fieldsNamed("name expect_rev"), r.sent())
}

// TestAppendJSON: fingerprints stand in the log, and were made by encoding/json once.
func TestAppendJSON(t *testing.T) {
	texts := []string{"", "demo-key", `"`, `\`, "<é>", "a&b", "\x00", "\x7f", "\n", "~ ", "\xff", "\u2028", "😀"}
	text := func() string { return texts[rand.IntN(len(texts))] }
	for range 2000 {
		var r Request
		v := reflect.ValueOf(&r).Elem()
		for i := range v.NumField() {
			f := v.Field(i)
			if rand.IntN(2) == 0 {
				continue
			}
			if f.Kind() == reflect.Pointer {
				f.Set(reflect.New(f.Type().Elem()))
				f = f.Elem()
			}
			switch f.Kind() {
			case reflect.String:
				f.SetString(text())
			case reflect.Int:
				f.SetInt(rand.Int64() - 1<<62)
			case reflect.Uint64:
				f.SetUint(rand.Uint64())
			case reflect.Slice:
				f.Set(reflect.ValueOf([][]string{nil, {}, {text()}, {text(), text()}}[rand.IntN(4)]))
			default:
				t.Fatalf("nothing is known of %s", f.Type())
			}
		}
		want, err := json.Marshal(&r)
		require.NoError(t, err)
		require.Equal(t, string(want), string(r.appendJSON(nil, r.sent())))
	}
}
