package registry

import (
	"cmp"
	"strings"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// render makes the reply to an accepted command. last is the Seq of the commit's newest event: of the
// command's own, if it has any.
func render(v *catalog.Txn, c *call, out Outcome, last events.Seq, now events.Instant) (any, error) {
	if c.cmd.member != nil {
		return nil, nil // nobody reads it
	}
	a := Answer{Confirmation: &Confirmation{State: WaitRecorded}}
	if out.Replayed {
		a.Replayed = true
		a.Note = "this command id took effect before; nothing happened now"
	}
	seq := out.Seq
	if len(out.Events) > 0 {
		seq = last
	}
	if c.cmd.Verb.IsFleetWide() {
		return &FleetReply{Seq: cmp.Or(seq, last), Answer: a}, nil
	}
	if strings.HasPrefix(string(c.cmd.Verb), "deployment.") {
		return renderDeployment(v, out, a, seq)
	}
	return renderKey(v, c, out, a, seq, now)
}

func renderKey(v *catalog.Txn, c *call, out Outcome, a Answer, seq events.Seq, now events.Instant) (any, error) {
	k, err := v.Key(out.Subject)
	if err != nil {
		return nil, err
	}
	if !k.Exists() && out.Replayed {
		view := KeyView{ID: events.KeyID(out.Subject).String(), DeploymentNames: []string{}, Status: Deleted, Seq: seq}
		a.Note += "; the key has been deleted since: its history, by its id, tells what it was"
		return &KeyReply{KeyView: view, Answer: a}, nil
	}
	deleted := !k.Exists()
	if deleted {
		k = out.was.key
	}
	var used catalog.Usage
	if c.cmd.Verb != KeyCreate || out.Replayed { // a new key has none, and finding nothing takes time
		if used, err = v.Usage(k.ID); err != nil {
			return nil, err
		}
	}
	view, err := viewKey(v, &k, used, now)
	if err != nil {
		return nil, err
	}
	if deleted {
		view.Status = Deleted
	}
	if seq > 0 {
		view.Seq = seq
	}
	reply := &KeyReply{KeyView: view, Answer: a}
	if len(out.Events) > 0 {
		reply.Secret = c.secret.Reveal()
	} else if out.Replayed && c.secret.Reveal() != "" {
		reply.Note += "; the secret was shown then, and is not known any more: rotate the key if it is lost"
	}
	return reply, nil
}

func renderDeployment(v *catalog.Txn, out Outcome, a Answer, seq events.Seq) (any, error) {
	d, err := v.Deployment(out.Subject)
	if err != nil {
		return nil, err
	}
	if !d.Exists() && out.Replayed {
		a.Note += "; the deployment has been removed since"
		out.was.deployment = projections.Deployment{ID: out.Subject}
	}
	if !d.Exists() {
		d = out.was.deployment
	}
	view := viewDeployment(&d)
	if seq > 0 {
		view.Seq = seq
	}
	return &DeploymentReply{DeploymentView: view, Answer: a}, nil
}
