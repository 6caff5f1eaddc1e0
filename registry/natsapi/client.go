package natsapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

// The client's patience.
const (
	attemptTimeout = 2500 * time.Millisecond // a registry that takes over needs less than 3 s
	firstPause     = 50 * time.Millisecond
	longPause      = time.Second
)

// Client sends one actor's commands on one project.
type Client struct {
	nc             *nats.Conn
	project, actor string
}

// NewClient makes a client that uses nc.
func NewClient(nc *nats.Conn, project, actor string) *Client {
	return &Client{nc: nc, project: project, actor: actor}
}

// Do sends a command or query and reads the answer into reply, a pointer to what registry.Service.Do answers with,
// or nil. While no registry answers, or one answers unavailable, it sends the same again under the same command id,
// until ctx ends. Errors are *registry.Refusal.
func (c *Client) Do(ctx context.Context, verb registry.Verb, req registry.Request, reply any) error {
	for _, err := range []error{events.CheckProject(c.project), events.CheckActor(c.actor)} {
		if err != nil {
			return invalid("", "%v", err) // a dot in a name would make the subject another one
		}
	}
	if !verb.IsQuery() && req.CommandID == "" {
		req.CommandID = rand.Text()
	}
	body, err := json.Marshal(req)
	if err != nil {
		return invalid("", "the request cannot be written: %v", err)
	}
	subject, patience := subjectOf(c.project, c.actor, verb), attemptPatience(&req)
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		answer, err := c.attempt(ctx, subject, body, patience)
		if err == nil {
			return c.read(answer, reply)
		}
		if refusal := c.finally(err, subject); refusal != nil {
			return refusal
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return c.gaveUp(err, &req)
		}
	}
}

// attemptPatience leaves those that wait for a verdict the time that they gave the registry for it.
func attemptPatience(r *registry.Request) time.Duration {
	if r.Wait == registry.WaitConfirmed || r.WaitTimeout != "" {
		return attemptTimeout + patience(r) - usualWait
	}
	return attemptTimeout
}

// attempt asks once. The error is a refusal of the registry, or why none answered.
func (c *Client) attempt(ctx context.Context, subject string, body []byte, patience time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := c.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, err
	}
	code := answer.Header.Get(micro.ErrorCodeHeader)
	if code == "" {
		return answer, nil
	}
	var p problem
	if json.Unmarshal(answer.Data, &p) != nil || p.Code == "" {
		p = problem{Code: registry.Code(code), Message: answer.Header.Get(micro.ErrorHeader)}
	}
	return nil, &registry.Refusal{Code: p.Code, Message: p.Message, Field: p.Field}
}

// finally gives the refusal that sending again cannot change, or nil: anything else may be a registry that is being
// replaced. That a user may not publish a subject, a server says beside the request rather than in answer to it.
func (c *Client) finally(err error, subject string) error {
	var refusal *registry.Refusal
	if errors.As(err, &refusal) {
		if refusal.Code == registry.Unavailable {
			return nil
		}
		return refusal
	}
	said := c.nc.LastError()
	switch {
	case errors.Is(said, nats.ErrPermissionViolation) && strings.Contains(said.Error(), subject):
		return &registry.Refusal{Code: registry.Forbidden, Message: fmt.Sprintf(
			"the NATS server at %s does not let you publish %s; use other credentials, or ask its operator", c.server(), subject)}
	case errors.Is(err, nats.ErrMaxPayload):
		return invalid("", "the request is larger than the NATS server at %s passes on", c.server())
	case errors.Is(err, nats.ErrConnectionClosed):
		return &registry.Refusal{Code: registry.Unavailable, Message: "the connection to the NATS server is closed; connect again"}
	}
	return nil
}

func (c *Client) read(answer *nats.Msg, reply any) error {
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Data, reply); err != nil {
		return &registry.Refusal{Code: registry.Unavailable, Message: fmt.Sprintf(
			"the registry at %s answered what this program cannot read; are both of the same version? (%v)", c.server(), err)}
	}
	return nil
}

// gaveUp tells what to do once there is no time left to try again. The command id is in it: who goes on by hand
// must not make a second command of the first.
func (c *Client) gaveUp(last error, req *registry.Request) error {
	why := "no registry answers there; is one running, and is it the same log's?"
	var refusal *registry.Refusal
	if errors.As(last, &refusal) {
		why = refusal.Message
	} else if !c.nc.IsConnected() {
		why = "the connection is down; check the network, and that the NATS server runs"
	}
	if req.CommandID != "" {
		why += fmt.Sprintf(" (the command may have taken effect; its command id is %s)", req.CommandID)
	}
	return &registry.Refusal{Code: registry.Unavailable, Message: fmt.Sprintf("gave up on %s: %s", c.server(), why)}
}

// server names where the client is connected, or tries to be.
func (c *Client) server() string {
	if u := c.nc.ConnectedUrlRedacted(); u != "" {
		return u
	}
	return strings.Join(c.nc.Servers(), ", ")
}
