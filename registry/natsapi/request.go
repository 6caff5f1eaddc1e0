package natsapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/keyfleet/keyfleet/registry"
)

// maxRequestBytes is roomy: a thousand deployments by their names take 33 kB.
const maxRequestBytes = 256 << 10

// field is one field of registry.Request.
type field struct {
	index int
	kind  string // what its value must be, for people
}

// requestFields are the fields of registry.Request by name. They are looked up here, since encoding/json takes names
// in any case and repeated ones: a caller that misspells a field must not have it half understood.
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
		fields[name] = field{index: i, kind: kinds[f.Type]}
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
		if data, err = msgpackToJSON(data); err != nil {
			return r, invalid("", "the request is not msgpack of a map of fields: %v", err)
		}
	}
	return r, readJSON(data, &r)
}

func readJSON(data []byte, r *registry.Request) error {
	if !utf8.Valid(data) {
		return invalid("", "the request is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return notJSON(err)
	}
	into := reflect.ValueOf(r).Elem()
	var seen uint64 // a bit for each field's index
	for dec.More() {
		key, err := dec.Token()
		name, isText := key.(string)
		if err != nil || !isText {
			return notJSON(err)
		}
		f, known := requestFields[name]
		switch {
		case !known:
			return invalid(name, "there is no field %q; see the documentation of commands for those there are", name)
		case seen&(1<<f.index) != 0:
			return invalid(name, "%s is given twice", name)
		}
		seen |= 1 << f.index
		if err := readField(dec, name, f, into.Field(f.index).Addr().Interface()); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return notJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("", "something stands behind the request's JSON; send one object alone")
	}
	return nil
}

func readField(dec *json.Decoder, name string, f field, into any) error {
	err := dec.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return invalid(name, "%s is %s, not a %s", name, f.kind, wrong.Value)
	case err != nil:
		return notJSON(err)
	}
	return nil
}

func notJSON(err error) error {
	switch {
	case err == nil:
		return invalid("", "the request is not a JSON object of fields, such as {\"name\":\"demo-key\"}")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("", "the request is not a JSON object of fields: it ends too early")
	default:
		return invalid("", "the request is not a JSON object of fields: %v", err)
	}
}
