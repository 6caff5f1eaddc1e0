package natsapi

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry"
)

const (
	maxRenewals     = 1024 // under way at a time; the others are sent again by themselves
	maxRenewalBytes = 8 << 10
	renewalPatience = 10 * time.Second // with a log that is slow
)

// offerLeases hears verifiers while the registry is the active one. Renewals take no places from commands.
func (s *Server) offerLeases() error {
	places := make(chan struct{}, maxRenewals)
	renew := func(m *nats.Msg) {
		if _, active := s.svc.Active(); !active || !answerable(m.Reply) || len(m.Data) > maxRenewalBytes {
			return
		}
		select {
		case places <- struct{}{}:
			s.renewals.Go(func() {
				s.answerVerifier(m)
				<-places
			})
		default:
		}
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
