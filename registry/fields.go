package registry

import (
	"math/bits"
	"reflect"
	"strings"
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
