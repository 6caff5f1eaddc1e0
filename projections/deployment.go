package projections

import (
	"fmt"

	"github.com/keyfleet/keyfleet/events"
)

// Deployment is the state of one registered deployment. The zero Deployment does not exist.
type Deployment struct {
	ID        events.DeploymentID
	Project   string
	Rev       uint64
	Name      string
	Upstream  string // URL that its requests go to; may be empty
	Host      string // host name that the gateway serves it under; may be empty
	CreatedAt events.Instant
	Seq       events.Seq // of the last event folded in
}

// Exists reports whether the deployment was registered and not removed.
func (d *Deployment) Exists() bool { return d.Rev > 0 }

// Evolve folds one of the deployment's events in. DeploymentRegistered makes one of the zero
// Deployment; DeploymentRemoved makes the zero Deployment of it. The only error is ErrMisfit.
func (d *Deployment) Evolve(e *events.Event, seq events.Seq, at events.Instant) error {
	if e.Rev != d.Rev+1 || (d.Exists() && (e.Deployment() != d.ID || e.Project != d.Project)) {
		return fmt.Errorf("%w: %s of %s in %q, revision %d; have %s in %q, revision %d",
			ErrMisfit, e.Fact.Type(), e.Deployment(), e.Project, e.Rev, d.ID, d.Project, d.Rev)
	}
	if _, isRegistered := e.Fact.(*events.DeploymentRegistered); isRegistered == d.Exists() {
		return fmt.Errorf("%w: %s of %s at revision %d", ErrMisfit, e.Fact.Type(), e.Deployment(), d.Rev)
	}
	switch f := e.Fact.(type) {
	case *events.DeploymentRegistered:
		*d = Deployment{
			ID: e.Deployment(), Project: e.Project,
			Name: f.Name, Upstream: f.Upstream, Host: f.Host, CreatedAt: at,
		}
	case *events.DeploymentEdited:
		d.Upstream, d.Host = f.Upstream, f.Host
	case *events.DeploymentRemoved:
		*d = Deployment{}
		return nil
	default:
		return fmt.Errorf("%w: %s is no event of a deployment", ErrMisfit, e.Fact.Type())
	}
	d.Rev, d.Seq = e.Rev, seq
	return nil
}
