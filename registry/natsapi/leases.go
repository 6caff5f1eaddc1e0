package natsapi

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry"
)

const (
	maxRenewals     = 1024 // under way at a time; the others are sent again by themselves
	maxOfOne        = 4    // of them, one verifier's
	maxRenewalBytes = 8 << 10
	renewalPatience = 10 * time.Second // with a log that is slow
)

// offerLeases hears verifiers while the registry is the active one. Renewals take no places from commands, and those of one
// verifier few from those of others.
func (s *Server) offerLeases() error {
	renew := func(m *nats.Msg) {
		if _, active := s.svc.Active(); !active || !answerable(m.Reply) || len(m.Data) > maxRenewalBytes {
			return
		}
		s.renewals.enter(m, s.answerVerifier)
	}
	if err := s.subscribe(head.RenewSubject+"*", renew); err != nil {
		return err
	}
	return s.subscribe(head.AckSubject+"*", func(m *nats.Msg) {
		var a head.Ack
		if len(m.Data) <= maxRenewalBytes && json.Unmarshal(m.Data, &a) == nil {
			s.svc.Acknowledge(strings.TrimPrefix(m.Subject, head.AckSubject), a)
		}
	})
}

func (s *Server) answerVerifier(m *nats.Msg) {
	answer := &nats.Msg{Subject: m.Reply}
	var err error
	if answer.Data, err = s.hearVerifier(m); err != nil {
		refuse(answer, registry.AsRefusal(err), false)
	}
	_ = s.nc.PublishMsg(answer) // no connection, nobody to tell
}

func (s *Server) hearVerifier(m *nats.Msg) ([]byte, error) {
	name := strings.TrimPrefix(m.Subject, head.RenewSubject)
	var call head.Call
	if err := json.Unmarshal(m.Data, &call); err != nil {
		return nil, invalid("", "this is no renewal: %v", err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, renewalPatience)
	defer cancel()
	if call.Goodbye != nil {
		return nil, s.svc.Goodbye(ctx, name, *call.Goodbye)
	}
	return s.svc.Renew(ctx, name, call.Renewal)
}

// turnstile lets the renewals of many verifiers be answered at a time, those of each in the order in which they came.
type turnstile struct {
	mu      sync.Mutex
	waiting map[string][]*nats.Msg // by verifier; a verifier with an entry is being answered
	count   int
	all     sync.WaitGroup
	closed  bool
}

// enter has the message answered, if there is room.
func (t *turnstile) enter(m *nats.Msg, answer func(*nats.Msg)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	queue, busy := t.waiting[m.Subject]
	if t.closed || t.count >= maxRenewals || len(queue) >= maxOfOne {
		return
	}
	if t.waiting == nil {
		t.waiting = map[string][]*nats.Msg{}
	}
	t.count++
	if busy {
		t.waiting[m.Subject] = append(queue, m)
		return
	}
	t.waiting[m.Subject] = nil
	t.all.Go(func() {
		for next := m; next != nil; next = t.leave(m.Subject) {
			answer(next)
		}
	})
}

// leave gives the next one of the verifier's.
func (t *turnstile) leave(verifier string) *nats.Msg {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count--
	queue := t.waiting[verifier]
	if len(queue) == 0 {
		delete(t.waiting, verifier)
		return nil
	}
	t.waiting[verifier] = queue[1:]
	return queue[0]
}

// close lets nobody in any more, and waits for those inside.
func (t *turnstile) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.all.Wait()
}
