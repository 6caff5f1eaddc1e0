package httpcheck

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/keyfleet/keyfleet/events"
)

// Headers of checks.
const (
	KeyHeader       = "X-Api-Key"
	KeyIDHeader     = "Keyfleet-Key-Id"
	ProjectHeader   = "Keyfleet-Project"
	RequestIDHeader = "Keyfleet-Request-Id"

	deploymentHeader = "Keyfleet-Deployment"
	minSeqHeader     = "Keyfleet-Min-Seq"
	maxRequestID     = 128
)

// PresentedKey is the key that came with a request: that of x-api-key, else a bearer token. SDKs that insist
// on a bearer token send a dummy there, so that x-api-key wins.
func PresentedKey(h http.Header) []byte {
	if key := h.Get(KeyHeader); key != "" {
		return []byte(key)
	}
	scheme, key, ok := strings.Cut(h.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return nil
	}
	return []byte(strings.TrimLeft(key, " "))
}

var errMinSeq = errors.New("Keyfleet-Min-Seq is a Seq, such as 4711, or an incarnation and a Seq, such as inc_…:4711")

// ParseMinSeq reads a Keyfleet-Min-Seq header; the empty text asks for nothing. The incarnation is zero
// where none is given.
func ParseMinSeq(s string) (events.Incarnation, events.Seq, error) {
	var incarnation events.Incarnation
	if s == "" {
		return incarnation, 0, nil
	}
	digits := s
	if before, after, ok := strings.Cut(s, ":"); ok {
		if digits = after; before == "" || incarnation.UnmarshalText([]byte(before)) != nil {
			return events.Incarnation{}, 0, errMinSeq
		}
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || digits[0] == '+' {
		return events.Incarnation{}, 0, errMinSeq
	}
	return incarnation, events.Seq(seq), nil
}

// SetRequestID gives the answer the request's own id, where that is fit to be repeated, else a new one, and
// returns it.
func SetRequestID(w http.ResponseWriter, r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if !repeatable(id) {
		id = rand.Text()
	}
	set(w.Header(), RequestIDHeader, id)
	return id
}

func repeatable(id string) bool {
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return id != "" && len(id) <= maxRequestID
}
