package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/keyfleet/keyfleet/registry"
)

// problem is why a call is not carried out, in the form that Gcore's SDKs read.
type problem struct {
	status   int
	class    string
	message  string
	field    string // that is wrong, as callers name it
	internal error  // for the registry's own log
}

func (p *problem) Error() string { return p.message }

// problems is the one table from a registry's codes to statuses.
var problems = map[registry.Code]problem{
	registry.Invalid:     {status: http.StatusBadRequest, class: "ValidationError"},
	registry.Forbidden:   {status: http.StatusForbidden, class: "ForbiddenError"},
	registry.NotFound:    {status: http.StatusNotFound, class: "NotFoundError"},
	registry.NameTaken:   {status: http.StatusConflict, class: "ConflictError"},
	registry.Conflict:    {status: http.StatusConflict, class: "ConflictError"},
	registry.Unavailable: {status: http.StatusServiceUnavailable, class: "ServiceUnavailableError"},
}

// callersNames are what REST calls fields that commands call otherwise.
var callersNames = map[string]string{
	"deployments": "deployment_names", "key": "name", "expect_rev": "If-Match", "command_id": "Idempotency-Key",
}

var errUnauthorized = &problem{status: http.StatusUnauthorized, class: "UnauthorizedError",
	message: "show a living admin key: Authorization: APIKey kf_…"}

func forbid(format string, args ...any) error {
	return &problem{status: http.StatusForbidden, class: "ForbiddenError", message: fmt.Sprintf(format, args...)}
}

func invalid(field, format string, args ...any) error {
	return &problem{status: http.StatusBadRequest, class: "ValidationError", field: field, message: fmt.Sprintf(format, args...)}
}

func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	refusal := registry.AsRefusal(err)
	told, known := problems[refusal.Code]
	if !known {
		told = problems[registry.Unavailable]
	}
	told.message, told.field = refusal.Message, refusal.Field
	if name, other := callersNames[told.field]; other {
		told.field = name
	}
	var r *registry.Refusal
	if !errors.As(err, &r) {
		told.internal = err
	}
	return &told
}

// errorBody is what callers see of a problem.
type errorBody struct {
	ExceptionClass string            `json:"exception_class"`
	Message        string            `json:"message"`
	RequestID      string            `json:"request_id"`
	InvalidFields  map[string]string `json:"invalid_fields,omitempty"` // field to what is wrong with it
}

// complain answers with a problem. SDKs repeat 409 by themselves, unless they are told that it is no use.
func complain(w http.ResponseWriter, p *problem) {
	h := w.Header()
	switch p.status {
	case http.StatusConflict:
		h.Set("X-Should-Retry", "false")
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `APIKey realm="keyfleet"`)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	body := errorBody{ExceptionClass: p.class, Message: p.message, RequestID: h.Get(requestIDHeader)}
	if p.field != "" {
		body.InvalidFields = map[string]string{p.field: p.message}
	}
	writeJSON(w, p.status, body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic("an answer does not marshal: " + err.Error())
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience)) // not all writers can
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // no connection, nobody to tell
}
