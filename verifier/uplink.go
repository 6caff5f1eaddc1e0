package verifier

import (
	"context"
	"errors"

	"github.com/keyfleet/keyfleet/events/head"
)

// Uplink reaches the active registry. Package uplink does so over NATS.
type Uplink interface {
	// Renew sends a renewal and returns the signed grant that answers it. Errors that wrap ErrStranger or ErrReleased are the
	// registry's word; after any other it may be called again, with another nonce. Calls do not overlap.
	Renew(context.Context, head.Renewal) ([]byte, error)
	// Acknowledge sends what a registry may be waiting for. It does not block, and may fail unnoticed: renewals say it again.
	Acknowledge(head.Ack)
	// Goodbye ends the membership of an instance that answers nothing any more. It returns once the log says so. Only
	// an error that wraps ErrUnsent says that nobody can have heard it.
	Goodbye(context.Context, head.Goodbye) error
}

// What a registry says of an instance that it gives no grant.
var (
	// ErrStranger: it is not a member, or two machines are it. It must begin anew, as another.
	ErrStranger = errors.New("the registry does not know this instance")
	// ErrUnsent: nobody heard.
	ErrUnsent = errors.New("the registry cannot be reached")
	// ErrReleased: an operator said that its machine is no more. It must answer nothing.
	ErrReleased = errors.New("this instance was released")
)
