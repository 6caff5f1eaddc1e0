package registry

import (
	"context"
	"errors"
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// Role is what an admin key may do in the projects of its scope.
type Role string

// The roles. Each may do what the one before it may.
const (
	Viewer Role = "viewer" // reads
	Editor Role = "editor" // changes keys, and which deployments they open
	Owner  Role = "owner"  // changes deployments, which says where requests go, and imports keys made elsewhere
)

// EveryProject is the scope that holds all projects, those of admin keys included.
const EveryProject = "*"

// Admin is who presented an admin key. The zero Admin may do nothing.
type Admin struct {
	Key   events.KeyID
	Name  string
	Role  Role
	Scope string // a project or EveryProject
}

// Actor is whom the log names: the key's id, which no other key ever bears, behind the mark of names that nobody can use
// over NATS.
func (a *Admin) Actor() string { return "_" + a.Key.String() }

// Covers reports whether a project is the admin's to work in. The system's own are for owners of everything.
func (a *Admin) Covers(project string) bool {
	if events.SystemName(project) {
		return a.Scope == EveryProject && a.Role == Owner
	}
	return a.Scope != "" && (a.Scope == EveryProject || a.Scope == project)
}

// Has reports whether the admin's role includes what needs the role given.
func (a *Admin) Has(needed Role) bool {
	rank := []Role{Viewer, Editor, Owner}
	have := slices.Index(rank, a.Role)
	return have >= 0 && have >= slices.Index(rank, needed)
}

// ErrNotAdmitted says that a secret is no living admin key's: for every cause alike, so that nothing can be probed.
var ErrNotAdmitted = errors.New("this is no valid admin key")

// Admit says whose admin key has the digest. It goes by what this registry has folded in: a standby may admit a key for
// as long as it takes the log to reach it.
func (s *Service) Admit(presented events.Digest) (Admin, error) {
	r := s.catalog.Read()
	k, err := r.KeyWithDigest(presented)
	now := max(s.dateNow(), r.Position.Time)
	if err := errors.Join(err, r.Close()); err != nil {
		return Admin{}, err
	}
	// An admin key opens no deployment: that none was asked for is the last that Allow finds wrong with a good one.
	var none events.DeploymentID
	if k.Project != AdminProject || projections.Allow(&k, presented, none, now) != projections.NoDeployment {
		return Admin{}, ErrNotAdmitted
	}
	return Admin{Key: k.ID, Name: k.Name, Role: Role(k.Role), Scope: k.Scope}, nil
}

// Reading says what the answer to a query rests on.
type Reading struct {
	Seq     events.Seq // up to which the log is folded in, at least
	Standby bool       // this registry stands by: another may have gone on
}

// Look answers a query as Do does, and on a standby from what it has folded in so far.
func (s *Service) Look(ctx context.Context, cmd Command) (any, Reading, error) {
	at := Reading{Seq: s.catalog.Position().Seq}
	reply, err := s.Do(ctx, cmd)
	if !errors.Is(err, errStandby) || !cmd.Verb.IsQuery() || cmd.Verb.IsFleetWide() {
		return reply, at, err
	}
	at.Standby = true
	reply, err = s.read(ctx, &cmd)
	return reply, at, err
}
