package natsapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/registry"
)

// Subjects are keyfleet.cmd.<project>.<actor>.<noun>.<verb>.
const subjectPrefix = "keyfleet.cmd."

func subjectOf(project, actor string, v registry.Verb) string {
	return subjectPrefix + project + "." + actor + "." + string(v)
}

const (
	contentType     = "Content-Type"
	msgpackType     = "application/msgpack"
	jsonType        = "application/json"
	maxRequestBytes = 256 << 10
)

// decodeRequest reads a request strictly. Errors are refusals.
func decodeRequest(data []byte, asMsgpack bool) (registry.Request, error) {
	var r registry.Request
	if len(data) > maxRequestBytes {
		return r, invalid("", "the request has %d bytes; at most %d are allowed", len(data), maxRequestBytes)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return r, nil
	}
	if asMsgpack {
		var err error
		if data, err = msgpackToJSON(data); err != nil {
			return r, invalid("", "the request is not msgpack of a map of fields: %v", err)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&r)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return r, nil
		}
		return r, invalid("", "something stands behind the request's JSON; send one object alone")
	}
	return r, refusalOf(err)
}

func refusalOf(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return invalid(wrongType.Field, "%s is a %s, not a %s", wrongType.Field, kindOf(wrongType), wrongType.Value)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		return invalid(name, "there is no field %q; see the documentation of commands for those there are", name)
	}
	return invalid("", "the request is not a JSON object of fields: %v", err)
}

func kindOf(e *json.UnmarshalTypeError) string {
	return strings.TrimPrefix(strings.TrimPrefix(e.Type.String(), "*"), "[]")
}

func invalid(field, format string, args ...any) error {
	return &registry.Refusal{Code: registry.Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// encode writes a reply in the request's encoding. In msgpack it has the names and texts that it has in
// JSON: it is made from the JSON, so that the two cannot differ.
func encode(v any, asMsgpack bool) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil || !asMsgpack {
		return data, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var generic any
	if err := dec.Decode(&generic); err != nil {
		return nil, err
	}
	return msgpack.Marshal(wholeNumbers(generic))
}

// wholeNumbers turns JSON's numbers into integers; replies have no others.
func wholeNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return v.String()
		}
		return n
	case map[string]any:
		for name, field := range v {
			v[name] = wholeNumbers(field)
		}
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	}
	return v
}

// msgpackToJSON reads a flat map of texts, numbers and lists of texts: nothing else is in a request, so
// that no nesting can be too deep.
func msgpackToJSON(data []byte) ([]byte, error) {
	r := bytes.NewReader(data)
	dec := msgpack.NewDecoder(r)
	n, err := dec.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	for range n {
		name, err := dec.DecodeString()
		if err != nil {
			return nil, err
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %q stands there twice", name)
		}
		if fields[name], err = flatValue(dec, r); err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("%d bytes stand behind the end", r.Len())
	}
	return json.Marshal(fields)
}
