package registry

import (
	"errors"
	"fmt"

	"github.com/keyfleet/keyfleet/events/head"
)

// Code tells programs why a command was refused. Codes are part of the public contract.
type Code string

// The codes.
const (
	NameTaken   Code = "name_taken"
	NotFound    Code = "not_found"
	Invalid     Code = "invalid"
	Conflict    Code = "conflict"
	Forbidden   Code = "forbidden"
	Unavailable Code = "unavailable" // nothing is known to be wrong with the command: try again under its command id

	// Of renewals alone.
	Stranger Code = head.CodeStranger
	Released Code = head.CodeReleased
)

// Refusal is why a command was not carried out: a code for programs, and a sentence for people that
// says what to do.
type Refusal struct {
	Code    Code
	Message string
	Field   string // of the request that is wrong; empty when it is no single one
}

func (r *Refusal) Error() string { return r.Message }

func refuse(code Code, format string, args ...any) error {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

func refuseField(field, format string, args ...any) error {
	return &Refusal{Code: Invalid, Message: fmt.Sprintf(format, args...), Field: field}
}

// AsRefusal gives the refusal in err. What is no refusal is Unavailable: its cause is for the
// registry's own log, not for callers.
func AsRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return &Refusal{Code: Unavailable, Message: "the registry cannot answer at present; try again under the same command id"}
}
