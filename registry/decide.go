package registry

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// State is what decisions rest on: exact, up to and including all that was decided before. Methods
// that find nothing return a zero value and no error; an error means that the state cannot be read.
type State interface {
	Charter() *projections.Charter
	Project(name string) (catalog.Project, error)
	Key(events.KeyID) (projections.Key, error)
	KeyNamed(project, name string) (projections.Key, error)
	KeyWithDigest(events.Digest) (projections.Key, error)
	Deployment(events.DeploymentID) (projections.Deployment, error)
	DeploymentNamed(project, name string) (projections.Deployment, error)
	DeploymentAtHost(host string) (projections.Deployment, error)
	Command(project, actor, id string) (catalog.Command, bool, error)
}

// Chance is what a decision may need beyond state and time, drawn beforehand so that Decide is pure.
type Chance struct {
	ID     [16]byte      // of what the command creates
	Digest events.Digest // of the secret that the registry made, for commands that need one and bring none
	Hint   string
}

// Outcome is what became of an accepted command.
type Outcome struct {
	Events   []events.Event // empty when everything was as wanted already, or Replayed
	Subject  [16]byte       // the key or deployment that the command was about
	Replayed bool           // its command id took effect before, at Seq
	Seq      events.Seq     // of the last event, when Replayed
	was      subject
}

// subject is the key or deployment of a command that changes one, as it was before: what a deletion answers with.
type subject struct {
	key        projections.Key
	deployment projections.Deployment
}

// Decide turns a command into events, or refuses it. It is pure. An error that is no Refusal means
// that the state could not be read.
func Decide(s State, c *Command, chance Chance, now events.Instant) (Outcome, error) {
	if c.Request.CommandID != "" {
		done, found, err := s.Command(c.Project, c.Actor, c.Request.CommandID)
		if err != nil {
			return Outcome{}, err
		}
		if found && done.Request != c.fingerprint() {
			return Outcome{}, refuse(Conflict, "command id %q was used for another request; "+
				"send this one under an id of its own", c.Request.CommandID)
		}
		if found {
			return Outcome{Subject: done.Subject, Replayed: true, Seq: done.Seq}, nil
		}
	}
	d := decision{State: s, cmd: c, chance: chance, now: now}
	if err := d.decide(); err != nil {
		return Outcome{}, err
	}
	return Outcome{Events: d.events, Subject: d.subject, was: d.was}, nil
}

// decision gathers the events of one command.
type decision struct {
	State
	cmd     *Command
	chance  Chance
	now     events.Instant
	events  []events.Event
	subject [16]byte
	rev     uint64 // of the subject, events so far included
	was     subject
}

func (d *decision) decide() error {
	switch d.cmd.Verb {
	case KeyCreate:
		return d.createKey()
	case KeyEdit:
		return d.onKey(d.editKey)
	case KeyAttach:
		return d.onKey(d.attach)
	case KeyDetach:
		return d.onKey(d.detach)
	case KeyExpire:
		return d.onKey(d.changeExpiry)
	case KeyDisable:
		return d.onKey(d.disable)
	case KeyEnable:
		return d.onKey(d.enable)
	case KeyRotate:
		return d.onKey(d.rotate)
	case KeyDelete:
		return d.onKey(d.deleteKey)
	case DeploymentRegister:
		return d.registerDeployment()
	case DeploymentEdit:
		return d.onDeployment(d.editDeployment)
	case DeploymentRemove:
		return d.onDeployment(d.removeDeployment)
	default:
		return d.decideFleet()
	}
}

func (d *decision) decideFleet() error {
	switch d.cmd.Verb {
	case FleetRelease:
		return d.release()
	case FleetLease:
		return d.changeLease()
	case FleetAddSigningKey:
		return d.addSigningKey()
	case FleetRetireSigningKey:
		return d.retireSigningKey()
	case memberJoins:
		return d.join()
	case memberLeaves:
		return d.leave()
	default:
		return fmt.Errorf("%s is a query: it decides nothing", d.cmd.Verb)
	}
}

// say adds an event about the subject, its next revision.
func (d *decision) say(f events.Fact, a events.Admin) {
	d.rev++
	d.add(events.Event{Project: d.cmd.Project, Subject: d.subject, Rev: d.rev, Fact: f}, a)
}

func (d *decision) add(e events.Event, a events.Admin) {
	a.Actor = d.cmd.Actor
	if a.CommandID = d.cmd.Request.CommandID; a.CommandID != "" {
		a.Request = d.cmd.fingerprint()
	}
	e.Admin = a.Plain()
	d.events = append(d.events, e)
}

// openProject says that the project begins, if this is its first event.
func (d *decision) openProject() error {
	p, err := d.Project(d.cmd.Project)
	if err == nil && p.OpenedSeq == 0 {
		d.add(events.Event{Project: d.cmd.Project, Fact: &events.ProjectOpened{}}, events.Admin{})
	}
	return err
}

func (d *decision) expectRev(what string, have uint64) error {
	if want := d.cmd.Request.ExpectRev; want != nil && *want != have {
		return refuse(Conflict, "the %s is at revision %d, not %d: read it again, then decide", what, have, *want)
	}
	return nil
}

func (d *decision) onKey(then func(projections.Key) error) error {
	k, err := findKey(d.State, d.cmd.Project, d.cmd.Request.Key)
	if err != nil {
		return err
	}
	if err := d.expectRev("key", k.Rev); err != nil {
		return err
	}
	d.subject, d.rev, d.was.key = k.ID, k.Rev, k
	return then(k)
}

// findKey finds a project's key by its id or name.
func findKey(s State, project, address string) (projections.Key, error) {
	k, err := keyAt(s, project, address)
	if err == nil && (!k.Exists() || k.Project != project) {
		return k, refuse(NotFound, "there is no key %q in project %q; to see which there are: keyfleet keys list --project %s", address, project, project)
	}
	return k, err
}

func keyAt(s State, project, address string) (projections.Key, error) {
	if id, err := events.ParseKeyID(address); err == nil {
		return s.Key(id)
	}
	if events.CheckKeyName(address) == nil {
		return s.KeyNamed(project, address)
	}
	return projections.Key{}, nil // no key can be called that
}

// findDeployment finds a project's deployment by its id or name.
func findDeployment(s State, project, address string) (projections.Deployment, error) {
	d, err := deploymentAt(s, project, address)
	if err == nil && (!d.Exists() || d.Project != project) {
		return d, refuse(NotFound, "deployment %q is not registered in project %q; "+
			"register it first: keyfleet deployments register %s --project %s", address, project, address, project)
	}
	return d, err
}

func deploymentAt(s State, project, address string) (projections.Deployment, error) {
	if id, err := events.ParseDeploymentID(address); err == nil {
		return s.Deployment(id)
	}
	if events.CheckDeploymentName(address) == nil {
		return s.DeploymentNamed(project, address)
	}
	return projections.Deployment{}, nil // no deployment can be called that
}

// longestGrace is how long the secret before a rotation may go on opening.
const (
	longestGrace = 30 * 24 * time.Hour
	usualGrace   = 24 * time.Hour
)

func instantOf(text *string, otherwise events.Instant) (events.Instant, error) {
	if text == nil {
		return otherwise, nil
	}
	at, err := events.ParseInstant(*text)
	if errors.Is(err, events.ErrInstant) {
		err = refuseField("expires_at", "expires_at: %v", err)
	}
	return at, err
}
