// Package history tells the log as people read it: who did what, to what, when. It turns events into
// entries of texts, in one form for a key's history, the audit log and the console.
//
// It promises that an entry states everything that its event does, digests included and secrets
// never, for those are not in the log. It leaves storage to others: an entry is made of one event alone.
package history

import (
	"errors"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/sealing"
)

// Entry is one event in words. Absent is empty or nil.
type Entry struct {
	Seq     events.Seq     `json:"seq"`
	Time    events.Instant `json:"time"`
	Type    events.Type    `json:"type"`
	Project string         `json:"project,omitempty"`
	Subject string         `json:"subject,omitempty"` // id of the key, deployment or verifier instance
	Rev     uint64         `json:"rev,omitempty"`

	// The admin part. Sealed says that it is there but cannot be read here.

	Actor       string  `json:"actor,omitempty"`
	CommandID   string  `json:"command_id,omitempty"`
	Name        string  `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	Hint        string  `json:"hint,omitempty"`
	Reason      string  `json:"reason,omitempty"`
	Sealed      bool    `json:"sealed,omitempty"`

	// The fact.

	Digest      string            `json:"digest,omitempty"`
	Deployments []string          `json:"deployments,omitempty"`
	ExpiresAt   *events.Instant   `json:"expires_at,omitempty"`
	GraceUntil  *events.Instant   `json:"grace_until,omitempty"`
	Details     map[string]string `json:"details,omitempty"` // what only this type states
}

// Describe makes the entry of the event at seq in a commit of the time at. The ring opens
// sealed admin parts; nil: they stay sealed.
func Describe(e *events.Event, seq events.Seq, at events.Instant, ring *sealing.Ring) (Entry, error) {
	n := Entry{Seq: seq, Time: at, Type: e.Fact.Type(), Project: e.Project, Rev: e.Rev, Subject: subject(e)}
	if err := n.describeAdmin(e, ring); err != nil {
		return Entry{}, err
	}
	n.describeFact(e.Fact)
	return n, nil
}

func subject(e *events.Event) string {
	if e.Subject == ([16]byte{}) {
		return ""
	}
	switch e.Fact.(type) {
	case *events.DeploymentRegistered, *events.DeploymentEdited, *events.DeploymentRemoved:
		return e.Deployment().String()
	case *events.VerifierRegistered, *events.VerifierLeft:
		return e.Instance().String()
	default:
		return e.Key().String()
	}
}

func (n *Entry) describeAdmin(e *events.Event, ring *sealing.Ring) error {
	a, err := ring.Open(e)
	if errors.Is(err, events.ErrSealed) {
		n.Sealed = true
		return nil
	}
	if err != nil {
		return err
	}
	n.Actor, n.CommandID, n.Description = a.Actor, a.CommandID, a.Description
	n.Name, n.Hint, n.Reason = textOf(a.Name), textOf(a.Hint), textOf(a.Reason)
	return nil
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (n *Entry) describeFact(f events.Fact) {
	switch f := f.(type) {
	case *events.Created:
		n.Digest, n.ExpiresAt, n.Deployments = f.Digest.String(), &f.ExpiresAt, texts(f.Deployments)
		n.detail("role", f.Role)
		n.detail("scope", f.Scope)
		n.flag("foreign", f.Foreign)
	case *events.Attached:
		n.Deployments = texts(f.Deployments)
	case *events.Detached:
		n.Deployments = texts(f.Deployments)
	case *events.ExpiryChanged:
		n.ExpiresAt = &f.ExpiresAt
	case *events.Expired:
		n.ExpiresAt = &f.ExpiresAt
	case *events.Rotated:
		n.Digest = f.Digest.String()
		if f.GraceUntil > 0 {
			n.GraceUntil = &f.GraceUntil
		}
		n.flag("foreign", f.Foreign)
	case *events.GraceEnded:
		n.GraceUntil = &f.GraceUntil
	case *events.DeploymentRegistered:
		n.Name = f.Name
		n.detail("upstream", f.Upstream)
		n.detail("host", f.Host)
	case *events.DeploymentEdited:
		n.detail("upstream", f.Upstream)
		n.detail("host", f.Host)
	default:
		n.describeLogFact(f)
	}
}

func texts(ids []events.DeploymentID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

func (n *Entry) detail(name, value string) {
	if value == "" {
		return
	}
	if n.Details == nil {
		n.Details = map[string]string{}
	}
	n.Details[name] = value
}

func (n *Entry) flag(name string, set bool) {
	if set {
		n.detail(name, "true")
	}
}
