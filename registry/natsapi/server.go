package natsapi

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry"
)

// Service is what is offered: a registry.Service.
type Service interface {
	Do(context.Context, registry.Command) (any, error)
	DoAll(ctx context.Context, cmds []registry.Command, answer func(i int, reply any, err error))
	Active() (term uint64, active bool)

	// What verifiers ask for.
	Renew(ctx context.Context, verifier string, r head.Renewal) (signedGrant []byte, err error)
	Goodbye(ctx context.Context, verifier string, g head.Goodbye) error
	Acknowledge(verifier string, a head.Ack)
}

const (
	maxInFlight   = 4096
	mostTogether  = 128 // commands
	usualWait     = 30 * time.Second
	flushPatience = 2 * time.Second
	drainPatience = 5 * time.Second // of Close, with commands that do not become durable
)

// Server answers commands while its registry is the active one, and is silent else.
type Server struct {
	nc       *nats.Conn
	svc      Service
	monitor  *monitor
	subs     []*nats.Subscription
	renewals turnstile
	places   chan struct{}   // one is taken for each command that is being carried out
	arrived  chan call       // commands among them, until they are decided together
	ctx      context.Context // of the handlers, which NATS calls without one
	end      context.CancelFunc
	closed   atomic.Bool
}

// Serve begins to answer, as a service of NATS micro; version is a semantic version, as that wants it. The right to
// publish to callers' reply subjects is all that nc needs.
func Serve(nc *nats.Conn, svc Service, version string) (*Server, error) {
	s := &Server{nc: nc, svc: svc, monitor: newMonitor(version), places: make(chan struct{}, maxInFlight), arrived: make(chan call, maxInFlight)}
	s.ctx, s.end = context.WithCancel(context.Background())
	go s.gather()
	if err := s.offer(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("offer commands over NATS: %w", err)
	}
	return s, nil
}

func (s *Server) offer() error {
	for _, e := range s.monitor.endpoints {
		if err := s.subscribe(e.subject, s.handler(e)); err != nil {
			return fmt.Errorf("%s: %w", e.verb, err)
		}
	}
	if err := s.offerLeases(); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	if err := s.offerMonitoring(); err != nil {
		return err
	}
	// Callers that come before the server knows of the endpoints would be told that there is no registry.
	return s.nc.FlushTimeout(flushPatience)
}

// subscribe joins no queue group: a registry that was frozen would swallow its share of the commands.
func (s *Server) subscribe(subject string, handle nats.MsgHandler) error {
	sub, err := s.nc.Subscribe(subject, handle)
	if err == nil {
		s.subs = append(s.subs, sub)
	}
	return err
}

// Close takes in no further commands and returns once those under way are answered. What arrives meanwhile is told
// to try again.
func (s *Server) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.stopListening()
	defer time.AfterFunc(drainPatience, s.end).Stop()
	for range cap(s.places) {
		s.places <- struct{}{} // never given back
	}
	close(s.arrived)
	s.end()
	s.renewals.close()
	if s.nc.IsConnected() {
		err = errors.Join(err, s.nc.FlushTimeout(flushPatience)) // the answers, before the caller closes the connection
	}
	return err
}

// stopListening lets what has arrived still reach the handlers.
func (s *Server) stopListening() error {
	for _, sub := range s.subs {
		if err := sub.Drain(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("stop listening at %s: %w", sub.Subject, err)
		}
	}
	return nil
}

var errBusy = &registry.Refusal{Code: registry.Unavailable,
	Message: "this registry is closing, or has as much to do as it can; try again under the same command id"}

// call is a request on its way to its answer.
type call struct {
	*nats.Msg
	at    *endpoint
	begun time.Time
}

// handler never waits: the commands of one verb pass through it one by one.
func (s *Server) handler(e *endpoint) nats.MsgHandler {
	return func(m *nats.Msg) {
		if _, active := s.svc.Active(); !active || !answerable(m.Reply) {
			return
		}
		c := call{Msg: m, at: e, begun: time.Now()}
		select {
		case s.places <- struct{}{}:
			if e.verb.IsQuery() {
				go s.handle(c)
			} else {
				s.arrived <- c // there is as much room as there are places
			}
		default:
			s.respond(c, nil, errBusy)
		}
	}
}

// gather hands commands on that are at hand together: each by itself would have a goroutine, and its answer a write to the network.
func (s *Server) gather() {
	for first := range s.arrived {
		calls, size := []call{first}, len(first.Data)
		for more := true; more && len(calls) < mostTogether && size < maxRequestBytes; {
			select {
			case c, open := <-s.arrived:
				if more = open; open {
					calls, size = append(calls, c), size+len(c.Data)
				}
			default:
				more = false
			}
		}
		go s.handleAll(calls)
	}
}

// handleAll carries out commands. Those that wait for a verdict do so one by one.
func (s *Server) handleAll(calls []call) {
	ctx, cancel := context.WithTimeout(s.ctx, 2*usualWait)
	defer cancel()
	cmds, of := make([]registry.Command, 0, len(calls)), make([]call, 0, len(calls))
	for _, c := range calls {
		switch cmd, err := commandOf(c); {
		case err != nil:
			s.answer(c, nil, err)
		case cmd.Request.Wait == registry.WaitConfirmed:
			go s.carryOut(c, cmd)
		default:
			cmds, of = append(cmds, cmd), append(of, c)
		}
	}
	s.svc.DoAll(ctx, cmds, func(i int, reply any, err error) { s.answer(of[i], reply, err) })
}

func (s *Server) handle(c call) {
	cmd, err := commandOf(c)
	if err != nil {
		s.answer(c, nil, err)
		return
	}
	s.carryOut(c, cmd)
}

func (s *Server) carryOut(c call, cmd registry.Command) {
	ctx, cancel := context.WithTimeout(s.ctx, patience(&cmd.Request))
	defer cancel()
	reply, err := s.svc.Do(ctx, cmd)
	s.answer(c, reply, err)
}

// answer is the last thing that is done for a call.
func (s *Server) answer(c call, reply any, err error) {
	s.respond(c, reply, err)
	<-s.places
}

// commandOf reads project and actor from the subject, which the NATS server's permissions speak about,
// and the rest from the body.
func commandOf(c call) (registry.Command, error) {
	cmd := addressedBy(c.Subject)
	cmd.Verb = c.at.verb
	for _, name := range []string{cmd.Project, cmd.Actor} {
		if events.SystemName(name) {
			return cmd, &registry.Refusal{Code: registry.Forbidden, Message: fmt.Sprintf(
				"%q is the system's own: names that begin with _ cannot be used over NATS", name)}
		}
	}
	var err error
	cmd.Request, err = decodeRequest(c.Data, isMsgpack(c.Msg))
	return cmd, err
}

func isMsgpack(m *nats.Msg) bool { return m.Header.Get(contentType) == msgpackType }

// patience is for what is recorded, and then for the verdict that the caller waits for.
func patience(r *registry.Request) time.Duration {
	wait, err := registry.ParseDuration(r.WaitTimeout)
	if err != nil {
		return 2 * usualWait
	}
	return usualWait + min(wait, time.Hour)
}
