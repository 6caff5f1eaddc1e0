package history

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/sealing"
	"github.com/keyfleet/keyfleet/projections"
)

// State is what keys and deployments were at one point of the log. It holds all that lived then in memory, some hundred
// bytes each.
type State struct {
	Seq         events.Seq     // of the last event folded in
	Time        events.Instant // of its commit
	Keys        map[events.KeyID]projections.Key
	Deployments map[events.DeploymentID]projections.Deployment

	ring *sealing.Ring
}

// NewState is that before the first event. The ring opens sealed admin parts; nil: what they say is left out.
func NewState(ring *sealing.Ring) *State {
	return &State{ring: ring, Keys: map[events.KeyID]projections.Key{}, Deployments: map[events.DeploymentID]projections.Deployment{}}
}

// Fold takes in the commit's events up to a Seq. The only error is projections.ErrMisfit, or one of an admin part.
func (s *State) Fold(c *events.Commit, until events.Seq) error {
	list := c.Events()
	for i := range list {
		seq := c.First + events.Seq(i)
		if seq > until {
			return nil
		}
		if err := s.fold(&list[i], seq, c.Time); err != nil {
			return fmt.Errorf("event %d: %w", seq, err)
		}
		s.Seq, s.Time = seq, c.Time
	}
	return nil
}

func (s *State) fold(e *events.Event, seq events.Seq, at events.Instant) error {
	switch f := e.Fact.(type) {
	case *events.ProjectOpened:
		return s.ring.Learn(e.Project, f)
	case *events.DeploymentRegistered, *events.DeploymentEdited, *events.DeploymentRemoved:
		d := s.Deployments[e.Deployment()]
		err := d.Evolve(e, seq, at)
		s.Deployments[e.Deployment()] = d
		if !d.Exists() {
			delete(s.Deployments, e.Deployment())
		}
		return err
	case *events.Created, *events.Edited, *events.Attached, *events.Detached, *events.ExpiryChanged, *events.Expired,
		*events.Disabled, *events.Enabled, *events.Rotated, *events.GraceEnded, *events.Deleted:
		return s.foldKey(e, seq, at)
	}
	return nil
}

func (s *State) foldKey(e *events.Event, seq events.Seq, at events.Instant) error {
	k := s.Keys[e.Key()]
	if err := k.Evolve(e); err != nil {
		return err
	}
	admin, err := s.ring.Open(e)
	if err != nil && !errors.Is(err, events.ErrSealed) {
		return err
	}
	k.Describe(admin, seq, at)
	s.Keys[e.Key()] = k
	if !k.Exists() {
		delete(s.Keys, e.Key())
	}
	return nil
}

// SortedKeys are the keys by project and name.
func (s *State) SortedKeys() []projections.Key {
	return slices.SortedFunc(maps.Values(s.Keys), func(a, b projections.Key) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name), slices.Compare(a.ID[:], b.ID[:]))
	})
}

// SortedDeployments are the deployments by project and name.
func (s *State) SortedDeployments() []projections.Deployment {
	return slices.SortedFunc(maps.Values(s.Deployments), func(a, b projections.Deployment) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name))
	})
}

// Opens names the deployments that the key opens: those of its attachments that are still registered.
func (s *State) Opens(k *projections.Key) []string {
	names := []string{}
	for _, id := range k.Deployments {
		if d, registered := s.Deployments[id]; registered {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Deployment finds a deployment by its id or name in the project; the zero one is not registered.
func (s *State) Deployment(project, wanted string) projections.Deployment {
	for _, d := range s.Deployments {
		if d.Project == project && (d.Name == wanted || d.ID.String() == wanted) {
			return d
		}
	}
	return projections.Deployment{}
}

// Status says in a word how a key is at an instant.
func Status(k *projections.Key, now events.Instant) string {
	switch {
	case k.Disabled:
		return "disabled"
	case k.Expired || now >= k.ExpiresAt:
		return "expired"
	default:
		return "active"
	}
}
