package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keyfleet/keyfleet/registry"
)

// Exit statuses. They are part of the public contract.
const (
	statusDone        = 0
	statusRefused     = 1
	statusUsage       = 2
	statusUnavailable = 3
)

// failure is an error that knows its exit status and its code for programs.
type failure struct {
	status  int
	code    string
	message string
	field   string
}

func (f *failure) Error() string { return f.message }

// runError is what a command itself returned.
type runError struct{ error }

func (e runError) Unwrap() error { return e.error }

func usageError(format string, args ...any) error {
	return &failure{status: statusUsage, code: "usage", message: fmt.Sprintf(format, args...)}
}

func refusedError(code registry.Code, format string, args ...any) error {
	return &failure{status: statusRefused, code: string(code), message: fmt.Sprintf(format, args...)}
}

func unavailableError(format string, args ...any) error {
	return &failure{status: statusUnavailable, code: string(registry.Unavailable), message: fmt.Sprintf(format, args...)}
}

// silent is a failure that has been told of already.
func silent(status int) error { return &failure{status: status} }

// failureOf says what an error comes to. What cobra finds wrong before a command runs is usage;
// what goes wrong in a command and is nobody's refusal is taken for a fault that may pass.
func failureOf(err error) *failure {
	var f *failure
	var r *registry.Refusal
	var ran runError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &r):
		status := statusRefused
		if r.Code == registry.Unavailable {
			status = statusUnavailable
		}
		return &failure{status: status, code: string(r.Code), message: r.Message, field: r.Field}
	case errors.As(err, &ran):
		return &failure{status: statusUnavailable, code: string(registry.Unavailable), message: ran.Error()}
	default:
		return &failure{status: statusUsage, code: "usage", message: strings.Join(strings.Fields(err.Error()), " ")}
	}
}

// report writes an error where people and programs look for it, and gives the exit status.
func (a *app) report(err error) int {
	f := failureOf(err)
	switch {
	case f.message == "":
	case a.json:
		var body struct {
			Error struct {
				Code    string `json:"code"`
				Message string `json:"message"`
				Field   string `json:"field,omitempty"`
			} `json:"error"`
		}
		body.Error.Code, body.Error.Message, body.Error.Field = f.code, f.message, f.field
		_ = writeJSON(a.err, body) // there is nowhere else to say it
	case f.status == statusUsage:
		_, _ = fmt.Fprintf(a.err, "keyfleet: %s\nSee keyfleet help, or --help after any command.\n", clean(f.message))
	default:
		_, _ = fmt.Fprintf(a.err, "keyfleet: %s\n", clean(f.message))
	}
	return f.status
}
