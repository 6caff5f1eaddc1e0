package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlog"
)

// The project and the deployment that the keys of a stand belong to and open, and who acts there.
const (
	project    = "demo"
	deployment = "bare"
	actor      = "loadtest"
)

const keysInCommit = 1000

// seeding writes a log before any registry runs on it, as fast as the disk takes commits.
type seeding struct {
	log        *eventlog.Log
	at         events.Position
	deployment events.DeploymentID
	made       int
	keep       func(text string, id events.KeyID) // what else is to be done with each key
}

// seed registers a deployment with the upstream and creates keys that open it.
func seed(ctx context.Context, nc *nats.Conn, upstream string, keys int, keep func(string, events.KeyID)) error {
	log, err := eventlog.Open(ctx, nc, eventlog.Options{SyncAlways: func(context.Context, []string) error { return nil }})
	if err != nil {
		return err
	}
	last, err := log.Last(ctx)
	if err != nil {
		return err
	}
	s := &seeding{log: log, at: behind(last), deployment: events.NewID(), keep: keep}
	err = s.append(ctx,
		events.Event{Project: project, Fact: &events.ProjectOpened{}, Admin: events.Admin{Actor: actor}.Plain()},
		events.Event{Project: project, Subject: s.deployment, Rev: 1, Fact: &events.DeploymentRegistered{Name: deployment, Upstream: upstream},
			Admin: events.Admin{Actor: actor}.Plain()})
	for err == nil && s.made < keys {
		err = s.append(ctx, s.keys(min(keysInCommit, keys-s.made))...)
	}
	return err
}

func (s *seeding) keys(n int) []events.Event {
	es := make([]events.Event, n)
	for i := range es {
		secret := apikey.Generate()
		id := events.KeyID(events.NewID())
		name, hint := fmt.Sprintf("key-%08d", s.made), secret.Hint()
		es[i] = events.Event{
			Project: project, Subject: id, Rev: 1,
			Fact:  &events.Created{Digest: secret.Digest(), Deployments: []events.DeploymentID{s.deployment}, ExpiresAt: events.Never},
			Admin: events.Admin{Actor: actor, Name: &name, Hint: &hint}.Plain(),
		}
		s.keep(secret.Reveal(), id)
		s.made++
	}
	return es
}

func (s *seeding) append(ctx context.Context, es ...events.Event) error {
	c := &events.Commit{
		Schema: events.Schema, Incarnation: s.at.Incarnation, Term: s.at.Term, First: s.at.Seq + 1, Parent: s.at.Chain,
		Time: max(s.at.Time, events.InstantOf(time.Now())),
	}
	if err := c.Add(es...); err != nil {
		return err
	}
	e, err := s.log.Append(ctx, s.at, c)
	if err != nil {
		return err
	}
	s.at = behind(e)
	return nil
}

// behind is the position behind e.
func behind(e events.Entry) events.Position {
	return events.Position{
		Incarnation: e.Commit.Incarnation, Seq: e.Commit.Last(), Chain: e.Chain,
		Term: e.Commit.Term, Time: e.Commit.Time, StreamSeq: e.StreamSeq,
	}
}
