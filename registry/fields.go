package registry

import (
	"encoding/json"
	"math/bits"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fieldSet is some of a Request's fields, a bit for each.
type fieldSet uint64

// fieldNames are the JSON names of a Request's fields, in their order there.
var fieldNames = func() (names []string) {
	for f := range reflect.TypeFor[Request]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}()

// sent is the fields that the request carries: what its JSON would not leave out.
func (r *Request) sent() (sent fieldSet) {
	v := reflect.ValueOf(r).Elem()
	for i := range fieldNames {
		if !v.Field(i).IsZero() {
			sent |= 1 << i
		}
	}
	return sent
}

// fieldsNamed reads a list of names.
func fieldsNamed(list string) (set fieldSet) {
	for i, name := range fieldNames {
		if strings.Contains(" "+list+" ", " "+name+" ") {
			set |= 1 << i
		}
	}
	return set
}

// notInFingerprint is what two requests may differ in and still be the same.
var notInFingerprint = fieldsNamed(writeFields)

// appendJSON appends the fields of r as encoding/json writes them, for less.
func (r *Request) appendJSON(b []byte, fields fieldSet) []byte {
	v := reflect.ValueOf(r).Elem()
	b = append(b, '{')
	for begin := len(b); fields != 0; fields &= fields - 1 {
		if len(b) > begin {
			b = append(b, ',')
		}
		i := bits.TrailingZeros64(uint64(fields))
		b = append(appendQuoted(b, fieldNames[i]), ':')
		switch f := reflect.Indirect(v.Field(i)); f.Kind() {
		case reflect.String:
			b = appendQuoted(b, f.String())
		case reflect.Int:
			b = strconv.AppendInt(b, f.Int(), 10)
		case reflect.Uint64:
			b = strconv.AppendUint(b, f.Uint(), 10)
		default:
			b = appendMarshaled(b, f.Interface())
		}
	}
	return append(b, '}')
}

func appendQuoted(b []byte, s string) []byte {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return appendMarshaled(b, s)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && (!utf8.ValidString(s) || strings.ContainsAny(s, "\u2028\u2029")) {
		return appendMarshaled(b, s)
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendMarshaled(b []byte, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("a request of texts and numbers does not marshal: " + err.Error())
	}
	return append(b, data...)
}

// first is the name of the set's first field, "" if there is none.
func (s fieldSet) first() string {
	if s == 0 {
		return ""
	}
	return fieldNames[bits.TrailingZeros64(uint64(s))]
}

// verbFields is a verbRule, read.
type verbFields struct{ allowed, required fieldSet }

var fieldsOf = func() map[Verb]verbFields {
	all := make(map[Verb]verbFields, len(verbs))
	for v, rule := range verbs {
		all[v] = verbFields{fieldsNamed(rule.allowed()), fieldsNamed(rule.required)}
	}
	return all
}()
