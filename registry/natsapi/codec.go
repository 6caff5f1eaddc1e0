package natsapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/registry"
)

const (
	contentType = "Content-Type"
	msgpackType = "application/msgpack"
)

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

// wholeNumbers turns JSON's numbers into integers; replies have no others, and none beyond 63 bits.
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
	if n < 0 { // how the decoder counts nil
		return nil, errors.New("nil is no map")
	}
	fields := map[string]any{}
	for range n {
		name, err := text(dec, r)
		if err != nil {
			return nil, err
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %q stands there twice", name)
		}
		fields[name], err = flatValue(dec, r)
		if errors.Is(err, errTooLong) {
			return nil, tooLong(name)
		}
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("%d bytes stand behind the end", r.Len())
	}
	return json.Marshal(fields)
}
