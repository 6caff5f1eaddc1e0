package natsapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/keyfleet/keyfleet/registry"
)

// The bounds of a request. Thousands of requests may wait at once, each with the memory that it takes.
const (
	maxRequestBytes = 64 << 10 // roomy: a thousand deployments by their ids take 33 kB
	maxListed       = 1000     // entries of a list
)

// field is one field of registry.Request.
type field struct {
	name  string
	index int
	kind  string // what its value must be, for people
}

// requestFields are the fields of registry.Request by name. Names are looked up here, since encoding/json takes them in
// any case and more than once: a caller that errs must not be half understood.
var requestFields = func() map[string]field {
	kinds := map[reflect.Type]string{
		reflect.TypeFor[string]():    "a text",
		reflect.TypeFor[*string]():   "a text",
		reflect.TypeFor[*[]string](): "a list of texts",
		reflect.TypeFor[int]():       "a whole number",
		reflect.TypeFor[*uint64]():   "a whole number, 0 or more",
	}
	fields := map[string]field{}
	for i, f := range reflect.VisibleFields(reflect.TypeFor[registry.Request]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[name] = field{name: name, index: i, kind: kinds[f.Type]}
	}
	return fields
}()

// decodeRequest reads a request strictly. Errors are refusals.
func decodeRequest(data []byte, asMsgpack bool) (registry.Request, error) {
	var r registry.Request
	if len(data) > maxRequestBytes {
		return r, invalid("", "the request has %d bytes; at most %d are allowed", len(data), maxRequestBytes)
	}
	if len(data) == 0 || (!asMsgpack && len(bytes.TrimSpace(data)) == 0) {
		return r, nil
	}
	if asMsgpack {
		var err error
		data, err = msgpackToJSON(data)
		var refusal *registry.Refusal
		if errors.As(err, &refusal) {
			return r, refusal
		}
		if err != nil {
			return r, invalid("", "the request is not msgpack of a map of fields: %v", err)
		}
	}
	return r, readJSON(data, &r)
}

func readJSON(data []byte, r *registry.Request) error {
	if !utf8.Valid(data) {
		return invalid("", "the request is not valid UTF-8")
	}
	if err := checkLists(data); err != nil {
		return err
	}
	err := json.Unmarshal(data, r)
	var wrong *json.UnmarshalTypeError
	isWrongType := errors.As(err, &wrong)
	if err != nil && !isWrongType {
		return notJSON(err)
	}
	if bytes.TrimSpace(data)[0] != '{' {
		return notJSON(nil)
	}
	if err := checkNames(data); err != nil {
		return err
	}
	if isWrongType {
		return invalid(wrong.Field, "%s is %s, not a %s", wrong.Field, requestFields[wrong.Field].kind, wrong.Value)
	}
	return nil
}

// checkLists refuses lists that are too long, before there is memory for their entries. What is not JSON it leaves to
// json.Unmarshal to tell.
func checkLists(data []byte) error {
	if bytes.Count(data, []byte{','}) < maxListed || !json.Valid(data) {
		return nil
	}
	depth, entries, name := 0, 0, ""
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			depth++
			entries = 1
		case '}', ']':
			depth--
		case ',':
			if entries++; depth > 1 && entries > maxListed {
				return tooLong(name)
			}
		case '"':
			end := endOfText(data, i)
			if depth == 1 {
				name = string(data[i+1 : end])
			}
			i = end
		}
	}
	return nil
}

func tooLong(field string) error {
	return invalid(field, "%s has more than %d entries; send them in several commands", field, maxListed)
}

// checkNames refuses names that are none of a request's, and those that are given twice. It reads on from json.Unmarshal:
// data is a JSON object. To read it by tokens instead takes twice as long.
func checkNames(data []byte) error {
	var seen uint64 // a bit for each field's index
	depth, nameNext := 0, false
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			depth++
			nameNext = depth == 1
		case '}', ']':
			depth--
		case ',':
			nameNext = depth == 1
		case '"':
			end := endOfText(data, i)
			if nameNext {
				if err := checkName(data[i:end+1], &seen); err != nil {
					return err
				}
			}
			i, nameNext = end, false
		}
	}
	return nil
}

// endOfText finds the quotation mark that ends the text that begins at start.
func endOfText(data []byte, start int) int {
	i := start + 1
	for ; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i
}

func checkName(quoted []byte, seen *uint64) error {
	f, known := requestFields[string(quoted[1:len(quoted)-1])]
	if !known { // unless it is spelt with escapes
		var name string
		if err := json.Unmarshal(quoted, &name); err != nil {
			return notJSON(err)
		}
		if f, known = requestFields[name]; !known {
			return invalid(name, "there is no field %q; see the documentation of commands for those there are", name)
		}
	}
	if *seen&(1<<f.index) != 0 {
		return invalid(f.name, "%s is given twice", f.name)
	}
	*seen |= 1 << f.index
	return nil
}

func notJSON(err error) error {
	switch {
	case err == nil:
		return invalid("", "the request is not a JSON object of fields, such as {\"name\":\"demo-key\"}")
	case strings.Contains(err.Error(), "after top-level value"):
		return invalid("", "something stands behind the request's JSON; send one object alone")
	default:
		return invalid("", "the request is not a JSON object of fields: %v", err)
	}
}
