package natsapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

// Service is what is offered: a registry.Service.
type Service interface {
	Do(context.Context, registry.Command) (any, error)
	Active() (term uint64, active bool)
}

const (
	maxInFlight = 4096
	usualWait   = 30 * time.Second
)

// Server answers commands while its registry is the active one, and is silent else.
type Server struct {
	svc     Service
	micro   micro.Service
	ctx     context.Context //nolint:containedctx // ends the handlers, which NATS calls without one
	end     context.CancelFunc
	places  chan struct{}
	running sync.WaitGroup
}

// Serve begins to answer. version is a semantic version, as NATS micro wants it.
func Serve(nc *nats.Conn, svc Service, version string) (*Server, error) {
	s := &Server{svc: svc, places: make(chan struct{}, maxInFlight)}
	s.ctx, s.end = context.WithCancel(context.Background())
	var err error
	// No queue group: a registry that was frozen would swallow its share of the commands.
	s.micro, err = micro.AddService(nc, micro.Config{
		Name: "keyfleet", Version: version, QueueGroupDisabled: true,
		Description: "API keys: commands at " + subjectOf("<project>", "<actor>", "<noun>.<verb>"),
	})
	if err != nil {
		s.end()
		return nil, fmt.Errorf("offer commands over NATS: %w", err)
	}
	for _, v := range registry.Verbs() {
		name := strings.ReplaceAll(string(v), ".", "-")
		err := s.micro.AddEndpoint(name, micro.HandlerFunc(s.handler(v)), micro.WithEndpointSubject(subjectOf("*", "*", v)))
		if err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("offer %s over NATS: %w", v, err)
		}
	}
	return s, nil
}

// Close answers nothing further and waits for the commands that are being carried out.
func (s *Server) Close() error {
	err := s.micro.Stop()
	s.end()
	s.running.Wait()
	return err
}

func (s *Server) handler(v registry.Verb) func(micro.Request) {
	return func(req micro.Request) {
		if _, active := s.svc.Active(); !active || req.Reply() == "" || s.ctx.Err() != nil {
			return
		}
		select {
		case s.places <- struct{}{}:
		default:
			respond(req, nil, &registry.Refusal{Code: registry.Unavailable,
				Message: "the registry has too much to do; try again under the same command id"})
			return
		}
		s.running.Go(func() {
			defer func() { <-s.places }()
			s.handle(v, req)
		})
	}
}

func (s *Server) handle(v registry.Verb, req micro.Request) {
	cmd, err := commandOf(v, req)
	if err != nil {
		respond(req, nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience(&cmd.Request))
	defer cancel()
	reply, err := s.svc.Do(ctx, cmd)
	respond(req, reply, err)
}

// commandOf reads project and actor from the subject, which the NATS server's permissions speak about,
// and the rest from the body.
func commandOf(v registry.Verb, req micro.Request) (registry.Command, error) {
	tokens := strings.Split(strings.TrimPrefix(req.Subject(), subjectPrefix), ".")
	cmd := registry.Command{Project: tokens[0], Actor: tokens[1], Verb: v}
	for _, name := range tokens[:2] {
		if events.SystemName(name) {
			return cmd, &registry.Refusal{Code: registry.Forbidden, Message: fmt.Sprintf(
				"%q is the system's own: names that begin with _ cannot be used over NATS", name)}
		}
	}
	var err error
	cmd.Request, err = decodeRequest(req.Data(), isMsgpack(req))
	return cmd, err
}

func isMsgpack(req micro.Request) bool { return req.Headers().Get(contentType) == msgpackType }

func patience(r *registry.Request) time.Duration {
	wait, err := registry.ParseDuration(r.WaitTimeout)
	if err != nil || wait <= 0 || wait > time.Hour {
		return usualWait
	}
	return max(wait, time.Second)
}

// problem is the body of a refusal.
type problem struct {
	Code    registry.Code `json:"code"`
	Message string        `json:"message"`
	Field   string        `json:"field,omitempty"`
}

func respond(req micro.Request, reply any, err error) {
	asMsgpack := isMsgpack(req)
	headers := micro.Headers{contentType: {jsonType}}
	if asMsgpack {
		headers[contentType] = []string{msgpackType}
	}
	if err == nil {
		data, broken := encode(reply, asMsgpack)
		if broken == nil {
			_ = req.Respond(data, micro.WithHeaders(headers)) // no connection, nobody to tell
			return
		}
		err = broken
	}
	refusal := registry.AsRefusal(err)
	body, _ := encode(problem{refusal.Code, refusal.Message, refusal.Field}, asMsgpack) // texts alone: cannot fail
	_ = req.Error(string(refusal.Code), oneLine(refusal.Message), body, micro.WithHeaders(headers))
}

// oneLine keeps a sentence from being more than one header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
