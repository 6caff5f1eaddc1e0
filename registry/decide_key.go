package registry

import (
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/projections"
)

func (d *decision) createKey() error {
	r := &d.cmd.Request
	if err := d.freeName(r.Name); err != nil {
		return err
	}
	expires, err := instantOf(r.ExpiresAt, events.Never)
	if err != nil {
		return err
	}
	deployments, err := d.deployments(r.Deployments)
	if err != nil {
		return err
	}
	if err := checkDescription(r.Description); err != nil {
		return err
	}
	if err := d.checkRole(); err != nil {
		return err
	}
	digest, hint, foreign, err := d.secret()
	if err != nil {
		return err
	}
	if err := d.openProject(); err != nil {
		return err
	}
	d.subject = d.chance.ID
	d.say(&events.Created{
		Digest: digest, Deployments: deployments, ExpiresAt: expires, Foreign: foreign,
		Role: r.Role, Scope: r.Scope,
	}, events.Admin{Name: &r.Name, Description: r.Description, Hint: &hint})
	return nil
}

// checkRole holds admin keys, which have a role and a scope, and the others apart.
func (d *decision) checkRole() error {
	r := &d.cmd.Request
	if d.cmd.Project != AdminProject {
		if r.Role != "" || r.Scope != "" {
			return refuse(Invalid, "only keys of project %s have a role and a scope", AdminProject)
		}
		return nil
	}
	if !slices.Contains([]string{"viewer", "editor", "owner"}, r.Role) {
		return refuseField("role", "an admin key's role is viewer, editor or owner, not %q", r.Role)
	}
	if r.Scope != "*" && events.CheckProject(r.Scope) != nil {
		return refuseField("scope", "an admin key's scope is a project or *, not %q", r.Scope)
	}
	return nil
}

// freeName refuses a name that is badly formed or that a living key of the project bears.
func (d *decision) freeName(name string) error {
	if err := events.CheckKeyName(name); err != nil {
		return refuseField("name", "%v", err)
	}
	holder, err := d.KeyNamed(d.cmd.Project, name)
	if err == nil && holder.Exists() {
		return &Refusal{Code: NameTaken, Field: "name",
			Message: "a key named " + name + " exists already; choose another name, or delete that key first"}
	}
	return err
}

// secret is the digest and hint of the command's new secret: the ones sent, else those that the
// registry drew.
func (d *decision) secret() (digest events.Digest, hint string, foreign bool, err error) {
	r := &d.cmd.Request
	digest, hint = d.chance.Digest, d.chance.Hint
	switch {
	case r.Digest != "":
		if digest, err = events.ParseDigest(r.Digest); err != nil {
			return digest, hint, false, refuseField("digest", "%v", err)
		}
		if digest.IsZero() {
			return digest, hint, false, refuseField("digest", "a digest of zeroes is no secret's; send the SHA-256 of one")
		}
		if err = events.CheckHint(r.Hint); err != nil {
			return digest, hint, false, refuseField("hint", "%v", err)
		}
		hint, foreign = r.Hint, !apikey.IsOwnHint(r.Hint)
	case r.Hint != "":
		return digest, hint, false, refuseField("hint", "a hint goes with a digest; send both or neither")
	}
	holder, err := d.KeyWithDigest(digest)
	if err == nil && holder.Exists() {
		err = refuse(Conflict, "a key with this secret exists already; generate another secret")
	}
	return digest, hint, foreign, err
}

// deployments finds the ids of those that are named, each once.
func (d *decision) deployments(names *[]string) ([]events.DeploymentID, error) {
	if names == nil {
		return nil, nil
	}
	ids := make([]events.DeploymentID, 0, len(*names))
	for _, name := range *names {
		found, err := findDeployment(d.State, d.cmd.Project, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, found.ID) {
			ids = append(ids, found.ID)
		}
	}
	return ids, nil
}

func tooMany(n int) error {
	return refuseField("deployments", "a key opens at most %d deployments, not %d; use a second key",
		events.MaxDeploymentsPerKey, n)
}

func checkDescription(text *string) error {
	if text == nil {
		return nil
	}
	if err := events.CheckDescription(*text); err != nil {
		return refuseField("description", "%v", err)
	}
	return nil
}

// editKey says only what differs from the key as it is. Every check comes before the first event.
func (d *decision) editKey(k projections.Key) error {
	r := &d.cmd.Request
	var a events.Admin
	if r.Name != "" && r.Name != k.Name {
		if err := d.freeName(r.Name); err != nil {
			return err
		}
		a.Name = &r.Name
	}
	if err := checkDescription(r.Description); err != nil {
		return err
	}
	if r.Description != nil && *r.Description != k.Description {
		a.Description = r.Description
	}
	expires, err := instantOf(r.ExpiresAt, k.ExpiresAt)
	if err != nil {
		return err
	}
	wanted, err := d.deployments(r.Deployments)
	if err != nil {
		return err
	}
	if a.Name != nil || a.Description != nil {
		d.say(&events.Edited{}, a)
	}
	if r.Deployments != nil {
		d.setAttachments(&k, wanted)
	}
	if expires != k.ExpiresAt {
		d.say(&events.ExpiryChanged{ExpiresAt: expires}, events.Admin{})
	}
	return nil
}

func (d *decision) setAttachments(k *projections.Key, wanted []events.DeploymentID) {
	if gone := missingIn(wanted, k.Deployments); len(gone) > 0 {
		d.say(&events.Detached{Deployments: gone}, events.Admin{})
	}
	if added := missingIn(k.Deployments, wanted); len(added) > 0 {
		d.say(&events.Attached{Deployments: added}, events.Admin{})
	}
}

func (d *decision) attach(k projections.Key) error {
	wanted, err := d.deployments(d.cmd.Request.Deployments)
	if err != nil {
		return err
	}
	added := missingIn(k.Deployments, wanted)
	if len(added) == 0 {
		return nil
	}
	if len(k.Deployments)+len(added) > events.MaxDeploymentsPerKey {
		living, err := d.living(k.Deployments)
		if err != nil {
			return err
		}
		if len(living)+len(added) > events.MaxDeploymentsPerKey {
			return tooMany(len(living) + len(added))
		}
		// Attachments to deployments that were removed since make room.
		d.setAttachments(&k, living)
	}
	d.say(&events.Attached{Deployments: added}, events.Admin{})
	return nil
}

func (d *decision) living(ids []events.DeploymentID) ([]events.DeploymentID, error) {
	var living []events.DeploymentID
	for _, id := range ids {
		found, err := d.Deployment(id)
		if err != nil {
			return nil, err
		}
		if found.Exists() {
			living = append(living, id)
		}
	}
	return living, nil
}

func (d *decision) detach(k projections.Key) error {
	unwanted, err := d.deployments(d.cmd.Request.Deployments)
	if err != nil {
		return err
	}
	var gone []events.DeploymentID
	for _, id := range unwanted {
		if k.AttachedTo(id) {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		d.say(&events.Detached{Deployments: gone}, events.Admin{})
	}
	return nil
}

// missingIn is what of wanted is not in have.
func missingIn(have, wanted []events.DeploymentID) []events.DeploymentID {
	present := make(map[events.DeploymentID]bool, len(have))
	for _, id := range have {
		present[id] = true
	}
	var missing []events.DeploymentID
	for _, id := range wanted {
		if !present[id] {
			missing = append(missing, id)
		}
	}
	return missing
}

func (d *decision) changeExpiry(k projections.Key) error {
	expires, err := instantOf(d.cmd.Request.ExpiresAt, k.ExpiresAt)
	if err == nil && expires != k.ExpiresAt {
		d.say(&events.ExpiryChanged{ExpiresAt: expires}, events.Admin{})
	}
	return err
}

func (d *decision) disable(k projections.Key) error {
	if !k.Disabled {
		d.say(&events.Disabled{}, events.Admin{})
	}
	return nil
}

func (d *decision) enable(k projections.Key) error {
	if k.Disabled {
		d.say(&events.Enabled{}, events.Admin{})
	}
	return nil
}

func (d *decision) rotate(projections.Key) error {
	grace := usualGrace
	if text := d.cmd.Request.Grace; text != nil {
		var err error
		if grace, err = ParseDuration(*text); err != nil {
			return refuseField("grace", "grace: %v", err)
		}
	}
	if grace > longestGrace {
		return refuseField("grace", "a grace is at most 30d; rotate again later, or leave the key as it is")
	}
	digest, hint, foreign, err := d.secret()
	if err != nil {
		return err
	}
	rotated := events.Rotated{Digest: digest, Foreign: foreign}
	if grace > 0 {
		rotated.GraceUntil = d.now + events.Instant(grace.Milliseconds())
	}
	d.say(&rotated, events.Admin{Hint: &hint})
	return nil
}

func (d *decision) deleteKey(projections.Key) error {
	d.say(&events.Deleted{}, events.Admin{})
	return nil
}
