package natsapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
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
	maxInFlight   = 4096
	usualWait     = 30 * time.Second
	flushPatience = 2 * time.Second
	drainPatience = 5 * time.Second // of Close, with commands that do not become durable
)

// Server answers commands while its registry is the active one, and is silent else.
type Server struct {
	nc     *nats.Conn
	svc    Service
	micro  micro.Service
	places chan struct{}   // one is taken for each command that is being carried out
	ctx    context.Context // of the handlers, which NATS calls without one
	end    context.CancelFunc
	closed atomic.Bool
}

// Serve begins to answer. version is a semantic version, as NATS micro wants it. The right to publish to callers'
// reply subjects is all that nc needs, and safer than more: nats micro's own answers (ping, info, stats) go to any
// reply subject that a caller names.
func Serve(nc *nats.Conn, svc Service, version string) (*Server, error) {
	s := &Server{nc: nc, svc: svc, places: make(chan struct{}, maxInFlight)}
	s.ctx, s.end = context.WithCancel(context.Background())
	var err error
	// No queue group: a registry that was frozen would swallow its share of the commands.
	s.micro, err = micro.AddService(nc, micro.Config{
		Name: "keyfleet", Version: version, QueueGroupDisabled: true, StatsHandler: s.stats,
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
	// Callers that come before the server knows of the endpoints would be told that there is no registry.
	if err := nc.FlushTimeout(flushPatience); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("offer commands over NATS: %w", err)
	}
	return s, nil
}

// stats is what `nats micro stats` shows beside its own counts, which know nothing of handlers that answer later.
func (s *Server) stats(*micro.Endpoint) any {
	term, active := s.svc.Active()
	return struct {
		Active   bool   `json:"active"` // false: this registry stands by
		Term     uint64 `json:"term"`
		InFlight int    `json:"in_flight"`
	}{active, term, len(s.places)}
}

// Close takes in no further commands and returns once those under way are answered. What arrives meanwhile is told
// to try again.
func (s *Server) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.micro.Stop()
	defer time.AfterFunc(drainPatience, s.end).Stop()
	for range cap(s.places) {
		s.places <- struct{}{} // never given back
	}
	s.end()
	if s.nc.IsConnected() {
		err = errors.Join(err, s.nc.FlushTimeout(flushPatience)) // the answers, before the caller closes the connection
	}
	return err
}

var errBusy = &registry.Refusal{Code: registry.Unavailable,
	Message: "this registry is closing, or has as much to do as it can; try again under the same command id"}

// handler never waits: the commands of one verb pass through it one by one.
func (s *Server) handler(v registry.Verb) func(micro.Request) {
	return func(req micro.Request) {
		if _, active := s.svc.Active(); !active || !answerable(req.Reply()) {
			return
		}
		select {
		case s.places <- struct{}{}:
			go func() {
				s.handle(v, req)
				<-s.places
			}()
		default:
			s.respond(req, nil, errBusy)
		}
	}
}

func (s *Server) handle(v registry.Verb, req micro.Request) {
	cmd, err := commandOf(v, req)
	if err != nil {
		s.respond(req, nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience(&cmd.Request))
	defer cancel()
	reply, err := s.svc.Do(ctx, cmd)
	s.respond(req, reply, err)
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
