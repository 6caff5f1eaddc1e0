package registry

import (
	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

func (d *decision) registerDeployment() error {
	r := &d.cmd.Request
	if err := events.CheckDeploymentName(r.Name); err != nil {
		return refuseField("name", "%v", err)
	}
	holder, err := d.DeploymentNamed(d.cmd.Project, r.Name)
	if err != nil {
		return err
	}
	if holder.Exists() {
		return &Refusal{Code: NameTaken, Field: "name",
			Message: "deployment " + r.Name + " is registered already; deployment.edit changes it"}
	}
	upstream, host, err := d.addresses(projections.Deployment{})
	if err != nil {
		return err
	}
	if err := d.openProject(); err != nil {
		return err
	}
	d.subject = d.chance.ID
	d.say(&events.DeploymentRegistered{Name: r.Name, Upstream: upstream, Host: host}, events.Admin{})
	return nil
}

func (d *decision) onDeployment(then func(projections.Deployment) error) error {
	found, err := findDeployment(d.State, d.cmd.Project, d.cmd.Request.Name)
	if err != nil {
		return err
	}
	if err := d.expectRev("deployment", found.Rev); err != nil {
		return err
	}
	d.subject, d.rev, d.was.deployment = found.ID, found.Rev, found
	return then(found)
}

func (d *decision) editDeployment(was projections.Deployment) error {
	upstream, host, err := d.addresses(was)
	if err != nil || (upstream == was.Upstream && host == was.Host) {
		return err
	}
	d.say(&events.DeploymentEdited{Upstream: upstream, Host: host}, events.Admin{})
	return nil
}

// addresses are upstream and host as the request wants them, else as they were.
func (d *decision) addresses(was projections.Deployment) (upstream, host string, err error) {
	upstream, host = was.Upstream, was.Host
	if sent := d.cmd.Request.Upstream; sent != nil {
		if upstream = *sent; events.CheckUpstream(upstream) != nil {
			return "", "", refuseField("upstream", "%v", events.CheckUpstream(upstream))
		}
	}
	if sent := d.cmd.Request.Host; sent != nil {
		if host = *sent; events.CheckHost(host) != nil {
			return "", "", refuseField("host", "%v", events.CheckHost(host))
		}
	}
	if host == "" || host == was.Host {
		return upstream, host, nil
	}
	holder, err := d.DeploymentAtHost(host)
	if err == nil && holder.Exists() {
		err = refuse(Conflict, "host %s leads to another deployment already; choose another, or take it from that one first", host)
	}
	return upstream, host, err
}

func (d *decision) removeDeployment(projections.Deployment) error {
	d.say(&events.DeploymentRemoved{}, events.Admin{})
	return nil
}
