package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

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

// Do sends a command or query and reads the answer into reply, a pointer to what registry.Service.Do answers with.
// While no registry answers, or one answers unavailable, it sends the same again under the same command id, until
// ctx ends. Errors are *registry.Refusal.
func (c *Client) Do(ctx context.Context, verb registry.Verb, req registry.Request, reply any) error {
	if !verb.IsQuery() && req.CommandID == "" {
		req.CommandID = nuid.Next()
	}
	body, err := json.Marshal(req)
	if err != nil {
		return &registry.Refusal{Code: registry.Invalid, Message: err.Error()}
	}
	subject := subjectOf(c.project, c.actor, verb)
	timeout := attemptTimeout
	if req.Wait == registry.WaitConfirmed {
		timeout += patience(&req)
	}
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		attempt, cancel := context.WithTimeout(ctx, timeout)
		answer, err := c.nc.RequestWithContext(attempt, subject, body)
		cancel()
		if err == nil {
			err = read(answer, reply)
		}
		if err == nil || !worthAnother(err) {
			return asRefusal(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return c.gaveUp(err)
		}
	}
}

// read gives the refusal in an answer, or fills reply.
func read(answer *nats.Msg, reply any) error {
	code := answer.Header.Get(micro.ErrorCodeHeader)
	if code == "" {
		return json.Unmarshal(answer.Data, reply)
	}
	var p problem
	if json.Unmarshal(answer.Data, &p) != nil || p.Code == "" {
		p = problem{Code: registry.Code(code), Message: answer.Header.Get(micro.ErrorHeader)}
	}
	return &registry.Refusal{Code: p.Code, Message: p.Message, Field: p.Field}
}

// worthAnother: what is known to be refused stays refused; the rest may be a registry that is being replaced.
func worthAnother(err error) bool {
	var refusal *registry.Refusal
	if errors.As(err, &refusal) {
		return refusal.Code == registry.Unavailable
	}
	return !isPermission(err) && !errors.Is(err, nats.ErrConnectionClosed) && !isUnreadable(err)
}

func isPermission(err error) bool { return errors.Is(err, nats.ErrPermissionViolation) }

func isUnreadable(err error) bool {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &wrong)
}

func asRefusal(err error) error {
	var refusal *registry.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return refusal
	case isPermission(err):
		return &registry.Refusal{Code: registry.Forbidden, Message: "the NATS server does not let you send this: " + err.Error()}
	default:
		return &registry.Refusal{Code: registry.Unavailable, Message: "the registry's answer did not come: " + err.Error()}
	}
}

// gaveUp tells what to do once there is no time left to try again.
func (c *Client) gaveUp(last error) error {
	why := "no registry answers there; is one running, and is it the same log's?"
	var refusal *registry.Refusal
	if errors.As(last, &refusal) {
		why = refusal.Message
	}
	return &registry.Refusal{Code: registry.Unavailable,
		Message: fmt.Sprintf("gave up on %s: %s", c.nc.ConnectedUrlRedacted(), why)}
}
