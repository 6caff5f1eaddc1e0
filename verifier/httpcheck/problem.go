package httpcheck

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

// Problem is a body of RFC 9457, with an error member of the shape that OpenAI's SDKs show to people.
type Problem struct {
	Type   string `json:"type"` // about:blank: the status says what kind of problem it is
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Error  struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Code    string  `json:"code"`
		Param   *string `json:"param"`
	} `json:"error"`
}

// problem makes a body. kind and code are what SDKs of OpenAI's shape tell errors apart by.
func problem(status int, kind, code, message string) []byte {
	p := Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: message}
	p.Error.Message, p.Error.Type, p.Error.Code = message, kind, code
	body, err := json.Marshal(p)
	if err != nil {
		panic("texts and a number always marshal: " + err.Error())
	}
	return append(body, '\n')
}

// The bodies of refusals, made once: nothing in them depends on the request.
var (
	unauthenticated = problem(http.StatusUnauthorized, "invalid_request_error", "invalid_api_key",
		"The API key is missing or not valid. Send a valid key in the x-api-key header, or as a bearer token.")
	forbidden = problem(http.StatusForbidden, "invalid_request_error", "deployment_not_open",
		"This API key does not open this deployment. Ask for the key to be attached to it, or use another key.")
	unavailable = problem(http.StatusServiceUnavailable, "server_error", "unavailable",
		"API keys cannot be checked here at the moment. Try again shortly.")
)

// Refuse answers a request that may not pass: 401, 403 or 503. It panics on an answer that allows.
func Refuse(w http.ResponseWriter, a verifier.Answer) {
	switch a.Reason.Class() {
	case projections.Pass:
		panic("an allowed request was refused")
	case projections.Unauthenticated:
		w.Header().Set("WWW-Authenticate", `Bearer realm="keyfleet"`)
		send(w, http.StatusUnauthorized, unauthenticated)
	case projections.Forbidden:
		setState(w.Header(), a)
		send(w, http.StatusForbidden, forbidden)
	case projections.Unavailable:
		w.Header().Set("Retry-After", "1")
		send(w, http.StatusServiceUnavailable, unavailable)
	}
}

// Complain answers with a problem that is not about a key. code is one word for programs, message a
// sentence that says what to do.
func Complain(w http.ResponseWriter, status int, code, message string) {
	kind := "invalid_request_error"
	if status >= http.StatusInternalServerError {
		kind = "server_error"
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	send(w, status, problem(status, kind, code, message))
}

func send(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	set(h, "Cache-Control", "no-store")
	set(h, "Content-Type", "application/problem+json")
	set(h, "Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone, which is no fault of ours
}

// setState says what the answer was decided from.
func setState(h http.Header, a verifier.Answer) {
	set(h, "Keyfleet-Seq", strconv.FormatUint(uint64(a.Seq), 10))
	set(h, "Keyfleet-Staleness-Ms", strconv.FormatInt(a.Staleness.Milliseconds(), 10))
	if a.Stale {
		set(h, "Keyfleet-Stale", "true")
	}
}

// set spares a name that is in canonical form already from being made so.
func set(h http.Header, name, value string) { h[name] = []string{value} }
