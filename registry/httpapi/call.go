package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

// The headers that are the API's own.
const (
	seqHeader          = "Keyfleet-Seq"
	confirmationHeader = "Keyfleet-Confirmation"
	standbyHeader      = "Keyfleet-Standby"
	idempotencyHeader  = "Idempotency-Key"
)

// call is one request on its way to its answer.
type call struct {
	service       Service
	route         *route
	w             http.ResponseWriter
	r             *http.Request
	admin         registry.Admin
	project, name string // as the path has them
}

// field is a member of a body that may be absent, null or a value.
type field[T any] struct {
	sent, null bool
	value      T
}

// UnmarshalJSON is called for null too.
func (f *field[T]) UnmarshalJSON(text []byte) error {
	f.sent = true
	if f.null = string(text) == "null"; f.null {
		return nil
	}
	return json.Unmarshal(text, &f.value)
}

// or is the value to send on: nil when it is absent, cleared when it is null.
func (f *field[T]) or(cleared T) *T {
	switch {
	case !f.sent:
		return nil
	case f.null:
		return &cleared
	default:
		return &f.value
	}
}

// readBody reads a JSON object strictly. No body at all is an empty object.
func (c *call) readBody(into any) error {
	text, err := c.wholeBody()
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return err
	}
	return decode(text, into)
}

func (c *call) wholeBody() ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, invalid("", "the body has more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, invalid("", "the body ended early: %v", err)
	}
	waitFor(c.w, 0, 0)
	return text, nil
}

func decode(text []byte, into any) error {
	if !utf8.Valid(text) {
		return invalid("", "the body is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		name := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]
		return invalid(name, "%s cannot be a %s", orElse(name, "the body"), wrong.Value)
	case err != nil:
		return invalid("", "the body is not as it should be: %s", strings.TrimPrefix(err.Error(), "json: "))
	case bytes.TrimSpace(text)[0] != '{':
		return invalid("", "the body is not one JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("", "the body is not one JSON object")
	}
	return nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// command is a command of the caller's, with what headers and query say of it.
func (c *call) command(verb registry.Verb, r registry.Request) (registry.Command, error) {
	q := c.r.URL.Query()
	r.CommandID, r.Wait, r.WaitTimeout = c.r.Header.Get(idempotencyHeader), q.Get("wait"), q.Get("wait_timeout")
	if match := c.r.Header.Get("If-Match"); match != "" && match != "*" {
		rev, err := strconv.ParseUint(strings.Trim(match, `"`), 10, 64)
		if err != nil {
			return registry.Command{}, invalid("If-Match", "If-Match is the ETag of what was read, not %s", match)
		}
		r.ExpectRev = &rev
	}
	return c.addressed(verb, r), nil
}

func (c *call) addressed(verb registry.Verb, r registry.Request) registry.Command {
	return registry.Command{Project: c.project, Actor: c.admin.Actor(), Verb: verb, Request: r}
}

func (c *call) do(verb registry.Verb, r registry.Request) (any, error) {
	cmd, err := c.command(verb, r)
	if err != nil {
		return nil, err
	}
	if err := c.checkQuery("wait", "wait_timeout"); err != nil {
		return nil, err
	}
	return c.service.Do(c.r.Context(), cmd)
}

// look asks, and says in the headers what the answer rests on.
func (c *call) look(verb registry.Verb, r registry.Request) (any, error) {
	reply, at, err := c.service.Look(c.r.Context(), c.addressed(verb, r))
	c.note(at.Seq)
	if at.Standby {
		c.w.Header().Set(standbyHeader, "true")
	}
	return reply, err
}

func (c *call) note(seq events.Seq) {
	c.w.Header().Set(seqHeader, strconv.FormatUint(uint64(seq), 10))
}

// checkQuery refuses parameters that the route does not take: wait misspelt must not be wait left out.
func (c *call) checkQuery(known ...string) error {
	for name, values := range c.r.URL.Query() {
		if !slices.Contains(known, name) {
			return invalid(name, "there is no parameter %s here; there are: %s", name, orElse(strings.Join(known, ", "), "none"))
		}
		if len(values) > 1 {
			return invalid(name, "%s is given %d times", name, len(values))
		}
	}
	return nil
}

// page reads which part of a list is wanted.
func (c *call) page(more ...string) (r registry.Request, err error) {
	if err = c.checkQuery(append(more, "limit", "offset")...); err != nil {
		return r, err
	}
	q := c.r.URL.Query()
	r.OrderBy, r.Search = q.Get("order_by"), q.Get("search")
	for name, into := range map[string]*int{"limit": &r.Limit, "offset": &r.Offset} {
		if !q.Has(name) {
			continue
		}
		if *into, err = strconv.Atoi(q.Get(name)); err != nil {
			return r, invalid(name, "%s is a whole number, not %q", name, q.Get(name))
		}
	}
	if q.Has("limit") && r.Limit == 0 {
		return r, invalid("limit", "limit is 1 to 1000, not 0")
	}
	return r, nil
}

// answer writes what a route replied: nothing when it wrote its answer itself.
func (c *call) answer(reply any) {
	switch reply := reply.(type) {
	case nil:
		return
	case *registry.KeyReply:
		c.tag(reply.Rev, reply.Seq, reply.Confirmation)
	case *registry.DeploymentReply:
		c.tag(reply.Rev, reply.Seq, reply.Confirmation)
	}
	if c.route.status == http.StatusNoContent {
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(c.w, http.StatusOK, reply)
}

// tag says in headers what bodies say too, and what a 204 has no body for.
func (c *call) tag(rev uint64, seq events.Seq, confirmed *registry.Confirmation) {
	h := c.w.Header()
	if c.route.status != http.StatusNoContent {
		h.Set("ETag", `"`+strconv.FormatUint(rev, 10)+`"`)
	}
	if confirmed != nil {
		c.note(seq)
		h.Set(confirmationHeader, confirmed.State)
	}
}
