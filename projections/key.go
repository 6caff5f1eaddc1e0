package projections

import (
	"errors"
	"fmt"
	"slices"

	"github.com/keyfleet/keyfleet/events"
)

// Key is the state of one API key. The zero Key does not exist; nothing opens with it.
type Key struct {
	ID      events.KeyID
	Project string
	Rev     uint64

	// What verifiers need.

	Digest      events.Digest
	Foreign     bool                  // the secret is not of Keyfleet's own form
	Grace       Grace                 // the secret before the last rotation, if it may still open
	Deployments []events.DeploymentID // sorted; may name deployments that have been removed since
	ExpiresAt   events.Instant
	Expired     bool // the log records that ExpiresAt came
	Disabled    bool
	Role, Scope string // of an admin key in project _admin; see events.Created

	// What only admins may know; empty where admin parts cannot be read.

	Name        string
	Description string
	Hint        string
	CreatedAt   events.Instant
	CreatedBy   string
	UpdatedAt   events.Instant
	Seq         events.Seq // of the last event folded in
}

// Grace is the secret before a rotation. It opens while now < Until and no GraceEnded is recorded.
type Grace struct {
	Digest events.Digest
	Until  events.Instant
}

// ErrMisfit says that an event does not fit the state before it: the log or the state is not what it
// was when the event was decided. A reader must stop.
var ErrMisfit = errors.New("event does not fit the state before it")

// Exists reports whether the key was created and not deleted.
func (k *Key) Exists() bool { return k.Rev > 0 }

// Evolve folds one of the key's events in, except its admin part, which Describe folds in where it
// can be read. Created makes a key of the zero Key; Deleted makes the zero Key of it. Slices are
// replaced, never written to, so that copies of a Key stay as they were. The only error is ErrMisfit.
func (k *Key) Evolve(e *events.Event) error {
	if e.Rev != k.Rev+1 || (k.Exists() && (e.Key() != k.ID || e.Project != k.Project)) {
		return fmt.Errorf("%w: %s of %s in %q, revision %d; have %s in %q, revision %d",
			ErrMisfit, e.Fact.Type(), e.Key(), e.Project, e.Rev, k.ID, k.Project, k.Rev)
	}
	if _, isCreated := e.Fact.(*events.Created); isCreated == k.Exists() {
		return fmt.Errorf("%w: %s of %s at revision %d", ErrMisfit, e.Fact.Type(), e.Key(), k.Rev)
	}
	k.Rev = e.Rev
	switch f := e.Fact.(type) {
	case *events.Created:
		*k = Key{
			ID: e.Key(), Project: e.Project, Rev: e.Rev,
			Digest: f.Digest, Foreign: f.Foreign,
			Deployments: union(nil, f.Deployments),
			ExpiresAt:   f.ExpiresAt,
			Role:        f.Role, Scope: f.Scope,
		}
	case *events.Attached:
		k.Deployments = union(k.Deployments, f.Deployments)
	case *events.Detached:
		k.Deployments = without(k.Deployments, f.Deployments)
	case *events.ExpiryChanged:
		k.ExpiresAt, k.Expired = f.ExpiresAt, false
	case *events.Expired:
		k.Expired = k.Expired || f.ExpiresAt == k.ExpiresAt
	case *events.Disabled:
		k.Disabled = true
	case *events.Enabled:
		k.Disabled = false
	case *events.Rotated:
		k.Grace = Grace{}
		if f.GraceUntil > 0 {
			k.Grace = Grace{Digest: k.Digest, Until: f.GraceUntil}
		}
		k.Digest, k.Foreign = f.Digest, f.Foreign
	case *events.GraceEnded:
		k.Grace = Grace{}
	case *events.Deleted:
		*k = Key{}
	case *events.Edited:
	default:
		return fmt.Errorf("%w: %s is no event of a key", ErrMisfit, e.Fact.Type())
	}
	return nil
}

// Describe folds in what only admins may know of the event that Evolve has just folded in.
func (k *Key) Describe(a events.Admin, seq events.Seq, at events.Instant) {
	if !k.Exists() {
		return
	}
	if k.Rev == 1 {
		k.CreatedAt, k.CreatedBy = at, a.Actor
	}
	if a.Name != nil {
		k.Name = *a.Name
	}
	if a.Description != nil {
		k.Description = *a.Description
	}
	if a.Hint != nil {
		k.Hint = *a.Hint
	}
	k.UpdatedAt, k.Seq = at, seq
}

// AttachedTo reports whether the key's attachments name the deployment.
func (k *Key) AttachedTo(d events.DeploymentID) bool {
	_, found := slices.BinarySearchFunc(k.Deployments, d, compareIDs)
	return found
}

func compareIDs(a, b events.DeploymentID) int { return slices.Compare(a[:], b[:]) }

func union(have, more []events.DeploymentID) []events.DeploymentID {
	all := slices.Concat(have, more)
	slices.SortFunc(all, compareIDs)
	return slices.Compact(all)
}

func without(have, less []events.DeploymentID) []events.DeploymentID {
	kept := make([]events.DeploymentID, 0, len(have))
	for _, d := range have {
		if !slices.Contains(less, d) {
			kept = append(kept, d)
		}
	}
	return kept
}
