package registry

import (
	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// Why a member left, as the log has it.
const (
	WhyGoodbye  = "goodbye"
	WhyLapsed   = "lapsed"
	WhyReleased = "released"
)

// maxInstances is how many instances one verifier's name may have at a time: those that crashed are members until they lapse.
const maxInstances = 16

// member is what a registry tells itself of an instance.
type member struct {
	instance events.InstanceID
	joins    *events.VerifierRegistered
	why      string // it leaves
}

// join makes an instance a member. One that is already is left as it is.
func (d *decision) join() error {
	m := d.cmd.member
	d.subject = m.instance
	members := d.Charter().Members
	if _, already := members[m.instance]; already {
		return nil
	}
	living := 0
	for _, other := range members {
		if other.Verifier == m.joins.Verifier {
			living++
		}
	}
	if living >= maxInstances {
		return refuse(Conflict, "verifier %q has %d instances already: two verifiers may have the same name, or one keeps crashing; "+
			"give each its own name, or release those that are scrapped with keyfleet fleet release", m.joins.Verifier, living)
	}
	d.say(m.joins, events.Admin{})
	return nil
}

// leave ends a membership, unless it has ended.
func (d *decision) leave() error {
	m := d.cmd.member
	d.subject, d.rev = m.instance, 1
	if _, there := d.Charter().Members[m.instance]; there {
		d.say(&events.VerifierLeft{Why: m.why}, events.Admin{})
	}
	return nil
}

// release ends the membership of a machine that an operator says answers nothing any more.
func (d *decision) release() error {
	id, err := events.ParseInstanceID(d.cmd.Request.Instance)
	if err != nil {
		return refuseField("instance", "%v; keyfleet fleet shows those there are", err)
	}
	if _, there := d.Charter().Members[id]; !there {
		return refuse(NotFound, "no instance %s is a member of the fleet; keyfleet fleet shows those that are", id)
	}
	reason := d.cmd.Request.Reason
	if err := events.CheckDescription(reason); err != nil {
		return refuseField("reason", "reason: %v", err)
	}
	d.subject, d.rev = id, 1
	d.say(&events.VerifierLeft{Why: WhyReleased}, events.Admin{Reason: &reason})
	return nil
}

// changeLease sets how long grants last from now on.
func (d *decision) changeLease() error {
	lease, err := ParseDuration(d.cmd.Request.Lease)
	if err != nil {
		return refuseField("lease", "lease: %v", err)
	}
	if err := projections.CheckLease(lease); err != nil {
		return refuseField("lease", "%v", err)
	}
	if lease != d.Charter().Lease.Length {
		d.add(events.Event{Fact: &events.SettingChanged{Name: projections.LeaseSetting, Value: lease.String()}}, events.Admin{})
	}
	return nil
}
