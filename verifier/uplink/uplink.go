// Package uplink reaches the active registry over NATS: renewals and goodbyes as requests at keyfleet.lease.<verifier>,
// acknowledgements published at keyfleet.ack.<verifier>, and counts of uses put into the stream KEYFLEET_USAGE at
// keyfleet.usage.<verifier>, which needs no registry.
//
// It promises to hand on what the registry said, word for word: grants are opened and believed, or not, by package verifier.
package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/verifier"
)

// Uplink is one verifier's.
type Uplink struct {
	nc          *nats.Conn
	js          jetstream.JetStream
	leases, ack string // subjects
	usage       string
}

// New makes an uplink of the verifier that uses nc. The name is the one that its credentials let it publish under.
func New(nc *nats.Conn, name string) (*Uplink, error) {
	if err := events.CheckActor(name); err != nil {
		return nil, fmt.Errorf("the verifier's name: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("reach the hub: %w", err)
	}
	return &Uplink{nc: nc, js: js, leases: head.RenewSubject + name, ack: head.AckSubject + name, usage: usage.Subject + name}, nil
}

// Renew keeps the contract of verifier.Uplink.
func (u *Uplink) Renew(ctx context.Context, r head.Renewal) ([]byte, error) {
	return u.ask(ctx, head.Call{Renewal: r})
}

// Goodbye keeps the contract of verifier.Uplink.
func (u *Uplink) Goodbye(ctx context.Context, g head.Goodbye) error {
	_, err := u.ask(ctx, head.Call{Goodbye: &g})
	if errors.Is(err, nats.ErrNoResponders) {
		err = fmt.Errorf("%w: %w", verifier.ErrUnsent, err)
	}
	return err
}

// Acknowledge keeps the contract of verifier.Uplink.
func (u *Uplink) Acknowledge(a head.Ack) {
	if data, err := json.Marshal(a); err == nil {
		_ = u.nc.Publish(u.ack, data) // a renewal says it again
	}
}

// reportTimeout is for the stream's answer.
const reportTimeout = 5 * time.Second

// Report keeps the contract of verifier.Reports. There is no stream before the first registry runs.
func (u *Uplink) Report(ctx context.Context, b usage.Batch) error {
	data, err := b.Encode()
	if err != nil {
		return err
	}
	if !u.nc.IsConnected() {
		return verifier.ErrUnsent
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err = u.js.Publish(ctx, u.usage, data, jetstream.WithExpectStream(usage.StreamName), jetstream.WithRetryAttempts(0))
	return err
}

func (u *Uplink) ask(ctx context.Context, call head.Call) ([]byte, error) {
	if !u.nc.IsConnected() { // the client would keep it, and send it when it is of no use any more
		return nil, verifier.ErrUnsent
	}
	body, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	answer, err := u.nc.RequestWithContext(ctx, u.leases, body)
	if err != nil {
		return nil, fmt.Errorf("no registry answers at %s: %w", u.nc.ConnectedUrlRedacted(), err)
	}
	code, said := answer.Header.Get(micro.ErrorCodeHeader), answer.Header.Get(micro.ErrorHeader)
	switch code {
	case "":
		return answer.Data, nil
	case head.CodeStranger:
		return nil, fmt.Errorf("%w: %s", verifier.ErrStranger, said)
	case head.CodeReleased:
		return nil, fmt.Errorf("%w: %s", verifier.ErrReleased, said)
	default:
		return nil, fmt.Errorf("the registry refuses (%s): %s", code, said)
	}
}
