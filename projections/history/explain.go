package history

import (
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/sealing"
	"github.com/keyfleet/keyfleet/projections"
)

// Question is whether a key, by its id or a name that it bore, opened a deployment of its project.
type Question struct{ Project, Key, Deployment string }

// Explanation is the answer, by the same projections.Allow as every verifier's, and what made it so.
type Explanation struct {
	Reason     projections.Reason `json:"reason"`
	Allowed    bool               `json:"allowed"`
	Seq        events.Seq         `json:"seq"` // as of which
	Time       events.Instant     `json:"at"`
	Key        string             `json:"key,omitempty"` // ids
	Deployment string             `json:"deployment,omitempty"`
	DecidedBy  *Entry             `json:"decided_by,omitempty"` // the newest event without which the answer would be another
	Events     []Entry            `json:"events"`               // of the key and of the deployment up to then
}

// Explainer answers a Question from two passes over the log: Search shows it the state and who bore the names, Collect then gathers
// the events. Neither keeps more than it tells.
type Explainer struct {
	question   Question
	state      *State
	key        events.KeyID // last to bear the name
	deployment events.DeploymentID
	found      []Entry
}

// NewExplainer asks. The ring opens sealed admin parts; without it keys are known by their ids alone.
func NewExplainer(q Question, ring *sealing.Ring) *Explainer {
	x := &Explainer{question: q, state: NewState(ring)}
	if id, err := events.ParseKeyID(q.Key); err == nil {
		x.key = id
	}
	if id, err := events.ParseDeploymentID(q.Deployment); err == nil {
		x.deployment = id
	}
	return x
}

// Search takes in the next commit of the first pass, up to a Seq.
func (x *Explainer) Search(c *events.Commit, until events.Seq) error {
	if err := x.state.Fold(c, until); err != nil {
		return err
	}
	return x.each(c, until, func(n Entry, e *events.Event) {
		switch e.Fact.(type) {
		case *events.Created, *events.Edited:
			if n.Name == x.question.Key && n.Project == x.question.Project {
				x.key = e.Key()
			}
		case *events.DeploymentRegistered:
			if n.Name == x.question.Deployment && n.Project == x.question.Project {
				x.deployment = e.Deployment()
			}
		}
	})
}

// Collect takes in the next commit of the second pass, up to a Seq.
func (x *Explainer) Collect(c *events.Commit, until events.Seq) error {
	return x.each(c, until, func(n Entry, e *events.Event) {
		if n.Project == x.question.Project && e.Subject != ([16]byte{}) && (e.Subject == x.key || e.Subject == x.deployment) {
			x.found = append(x.found, n)
		}
	})
}

func (x *Explainer) each(c *events.Commit, until events.Seq, visit func(Entry, *events.Event)) error {
	list := c.Events()
	for i := range list {
		seq := c.First + events.Seq(i)
		if seq > until {
			return nil
		}
		n, err := Describe(&list[i], seq, c.Time, x.state.ring)
		if err != nil {
			return err
		}
		visit(n, &list[i])
	}
	return nil
}

// Explain answers as of what was shown, for a caller who presents the key's secret at an instant.
func (x *Explainer) Explain(now events.Instant) Explanation {
	k := x.state.Keys[x.key]
	if k.Project != x.question.Project {
		k = projections.Key{}
	}
	d := x.state.Deployment(x.question.Project, x.question.Deployment)
	reason := projections.Allow(&k, k.Digest, d.ID, now)
	answer := Explanation{Reason: reason, Allowed: reason == projections.Allowed, Seq: x.state.Seq, Time: now, Events: x.found}
	if !x.key.IsZero() {
		answer.Key = x.key.String()
	}
	if !x.deployment.IsZero() {
		answer.Deployment = x.deployment.String()
	}
	for _, n := range slices.Backward(x.found) {
		if decides(reason, &n, answer.Deployment) {
			answer.DecidedBy = &n
			break
		}
	}
	return answer
}

// decides reports whether an event, if it is the newest such, made the answer what it is.
func decides(reason projections.Reason, n *Entry, deployment string) bool {
	names := slices.Contains(n.Deployments, deployment)
	switch reason {
	case projections.Allowed:
		return n.Type == events.TypeEnabled || n.Type == events.TypeExpiryChanged || names && (n.Type == events.TypeAttached || n.Type == events.TypeCreated)
	case projections.Unknown:
		return n.Type == events.TypeDeleted
	case projections.KeyDisabled:
		return n.Type == events.TypeDisabled
	case projections.KeyExpired:
		return n.Type == events.TypeExpired || n.Type == events.TypeExpiryChanged || n.Type == events.TypeCreated
	case projections.NoDeployment:
		return n.Type == events.TypeDeploymentRemoved
	case projections.NotAttached:
		return n.Type == events.TypeDeploymentRegistered || n.Type == events.TypeCreated || names && n.Type == events.TypeDetached
	default:
		return false
	}
}
