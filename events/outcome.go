package events

import "errors"

// How an append can end without being known durable.
var (
	// ErrConflict: another commit stands where this one was to go. Nothing was written. Read on,
	// decide again.
	ErrConflict = errors.New("conflict: another commit stands there")
	// ErrOutcomeUnknown: the attempt was given up before the log's answer was known. The commit may
	// be durable, now or later. A read alone never settles it.
	ErrOutcomeUnknown = errors.New("outcome of the append unknown")
)
