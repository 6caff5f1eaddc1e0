package eventlogtest

import (
	"crypto/rand"
	"testing"

	"github.com/keyfleet/keyfleet/events"
)

// NewCommit makes a commit of n created keys that follows after. Each call's keys are new, so no two commits are alike.
func NewCommit(t testing.TB, after events.Position, n int) *events.Commit {
	t.Helper()
	es := make([]events.Event, n)
	admin := events.Admin{Actor: "tester", CommandID: "01JZ8Q4T7RZ0V5", Name: new("a-key")}.Plain()
	for i := range es {
		fact := &events.Created{Deployments: []events.DeploymentID{{1}}, ExpiresAt: events.Never}
		_, _ = rand.Read(fact.Digest[:])
		es[i] = events.Event{Project: "demo", Subject: events.NewID(), Rev: 1, Fact: fact, Admin: admin}
	}
	return NewCommitOf(t, after, es...)
}

// NewCommitOf makes a commit of the events that follows after.
func NewCommitOf(t testing.TB, after events.Position, es ...events.Event) *events.Commit {
	t.Helper()
	c := &events.Commit{
		Schema:      events.Schema,
		Incarnation: after.Incarnation,
		Term:        after.Term,
		First:       after.Seq + 1,
		Parent:      after.Chain,
		Time:        after.Time + 1,
	}
	if err := c.Add(es...); err != nil {
		t.Fatalf("a commit of %d events: %v", len(es), err)
	}
	return c
}

// Behind is the position behind e.
func Behind(e events.Entry) events.Position {
	return events.Position{
		Incarnation: e.Commit.Incarnation,
		Seq:         e.Commit.Last(),
		Chain:       e.Chain,
		Term:        e.Commit.Term,
		Time:        e.Commit.Time,
		StreamSeq:   e.StreamSeq,
	}
}
