package keyindex

import (
	"fmt"
	"iter"
	"maps"
	"math"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// Deployments are all that are registered at one position: immutable, in memory, for they are few beside
// the keys.
type Deployments struct {
	byID   map[events.DeploymentID]*Deployment
	byName map[deploymentName]*Deployment
	byHost map[string]*Deployment
	last   uint16 // number given
}

// Deployment is one that is registered.
type Deployment struct {
	projections.Deployment

	// By which the front knows it, and which no other ever has; 0 for those that came when there were none left. It is of
	// this process alone.
	number uint16
}

type deploymentName struct{ project, name string }

func noDeployments() *Deployments {
	return &Deployments{
		byID:   map[events.DeploymentID]*Deployment{},
		byName: map[deploymentName]*Deployment{},
		byHost: map[string]*Deployment{},
	}
}

// Named gives the deployment that bears the name now; nil if there is none.
func (d *Deployments) Named(project, name string) *Deployment {
	return d.byName[deploymentName{project, name}]
}

// AtHost gives the deployment that is served under the host name; nil if there is none.
func (d *Deployments) AtHost(host string) *Deployment { return d.byHost[host] }

// All gives every deployment, in no order.
func (d *Deployments) All() iter.Seq[*Deployment] { return maps.Values(d.byID) }

func (d *Deployments) clone() *Deployments {
	return &Deployments{byID: maps.Clone(d.byID), byName: maps.Clone(d.byName), byHost: maps.Clone(d.byHost), last: d.last}
}

// evolve folds an event in. It may only be called on a clone that nobody reads yet.
func (d *Deployments) evolve(e *events.Event, seq events.Seq, at events.Instant) error {
	var next Deployment
	before := d.byID[e.Deployment()]
	if before != nil {
		next = *before
	}
	if err := next.Evolve(e, seq, at); err != nil {
		return err
	}
	next.CreatedAt, next.Seq = 0, 0 // no check asks for them: not stored
	if before != nil {
		d.remove(before)
	}
	if !next.Exists() {
		return nil
	}
	return d.add(&next)
}

func (d *Deployments) remove(gone *Deployment) {
	delete(d.byID, gone.ID)
	delete(d.byName, deploymentName{gone.Project, gone.Name})
	if gone.Host != "" {
		delete(d.byHost, gone.Host)
	}
}

// add refuses a second bearer of a name or a host: which of the two a caller means could only be guessed.
func (d *Deployments) add(one *Deployment) error {
	name := deploymentName{one.Project, one.Name}
	if other := d.byName[name]; other != nil {
		return fmt.Errorf("%w: the name of deployment %s is that of %s", projections.ErrMisfit, one.ID, other.ID)
	}
	if other := d.byHost[one.Host]; other != nil {
		return fmt.Errorf("%w: the host of deployment %s is that of %s", projections.ErrMisfit, one.ID, other.ID)
	}
	d.byID[one.ID], d.byName[name] = one, one
	if one.number == 0 && d.last < math.MaxUint16 {
		d.last++
		one.number = d.last
	}
	if one.Host != "" {
		d.byHost[one.Host] = one
	}
	return nil
}
