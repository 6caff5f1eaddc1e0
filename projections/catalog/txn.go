package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// Txn is the state with the events of one commit folded in, before they are durable. Only one may be
// open at a time. After an error of Fold it can only be discarded.
type Txn struct {
	View
	catalog   *Catalog
	pending   *pending // nil once committed or discarded
	next      events.Seq
	streamSeq uint64
	at        events.Instant
	counted   map[string]Project // the projects concerned
}

// Begin opens a Txn for the commit that is to stand at the stream sequence, begin at first and be dated at.
func (c *Catalog) Begin(first events.Seq, streamSeq uint64, at events.Instant) *Txn {
	p := &pending{DB: c.db, unseen: c.unseen, batch: c.db.NewBatch(), writes: map[string]write{}}
	charter := c.state.Load().charter // Evolve replaces what it changes
	return &Txn{
		View:      View{r: p, charter: &charter, floor: c.floor},
		catalog:   c,
		pending:   p,
		next:      first,
		streamSeq: streamSeq,
		at:        at,
		counted:   map[string]Project{},
	}
}

// Project is View's, the counts so far included.
func (t *Txn) Project(name string) (Project, error) {
	p, known := t.counted[name]
	if known {
		return p, nil
	}
	p, err := t.View.Project(name)
	if err == nil && p.OpenedSeq > 0 {
		t.counted[name] = p
	}
	return p, err
}

// Fold takes the next events in.
func (t *Txn) Fold(es ...events.Event) error {
	for i := range es {
		if err := t.fold(&es[i], t.next); err != nil {
			return fmt.Errorf("event %d: %w", t.next, err)
		}
		t.next++
	}
	return nil
}

// Commit makes what was folded in the catalog's state. e is the entry that held the events.
func (t *Txn) Commit(e events.Entry) error {
	position, err := t.catalog.Position().Next(e)
	if err != nil {
		return err
	}
	if position.Seq+1 != t.next {
		return fmt.Errorf("%w: folded up to Seq %d, the commit ends at %d", projections.ErrMisfit, t.next-1, position.Seq)
	}
	for name, p := range t.counted {
		t.set(projectKey(name), p, &err)
	}
	tree := t.catalog.state.Load().tree
	for i := range e.Commit.Events() {
		tree.Add(e.Commit.Leaf(i))
	}
	roots, _ := tree.MarshalBinary() // never fails
	t.set(metaKey, meta{Format: format, Position: position, Tree: roots}, &err)
	if t.charter.ChangedAt != t.catalog.state.Load().charter.ChangedAt {
		t.set(charterKey, t.charter, &err)
	}
	if err == nil {
		err = t.pending.batch.Commit(pebble.NoSync)
	}
	if err != nil {
		return fmt.Errorf("write catalog: %w", err)
	}
	t.pending = nil
	t.catalog.state.Store(&state{position: position, charter: *t.charter, tree: tree})
	return nil
}

// Discard drops what was folded in. After Commit it does nothing.
func (t *Txn) Discard() {
	if t.pending != nil {
		_ = t.pending.batch.Close()
		t.pending = nil
	}
}

func (t *Txn) fold(e *events.Event, seq events.Seq) error {
	member := t.charter.Members[e.Instance()]
	if err := t.charter.Evolve(e, seq, t.at); err != nil {
		return err
	}
	admin, err := e.Open(nil)
	if err != nil {
		return err
	}
	switch f := e.Fact.(type) {
	case *events.ProjectOpened:
		err = t.openProject(e.Project, seq)
	case *events.VerifierLeft:
		if admin.Reason != nil {
			r := Release{Member: member, Why: f.Why, Actor: admin.Actor, Reason: *admin.Reason, Seq: seq, At: t.at}
			t.set(idKey(releaseSpace, e.Subject), r, &err)
		}
	case *events.DeploymentRegistered, *events.DeploymentEdited, *events.DeploymentRemoved:
		err = t.foldDeployment(e, seq)
	case *events.Created, *events.Edited, *events.Attached, *events.Detached, *events.ExpiryChanged, *events.Expired,
		*events.Disabled, *events.Enabled, *events.Rotated, *events.GraceEnded, *events.Deleted:
		err = t.foldKey(e, admin, seq)
	}
	if admin.CommandID != "" {
		c := Command{Request: admin.Request, Seq: seq, Subject: e.Subject}
		t.set(commandKey(e.Project, admin.Actor, admin.CommandID), c, &err)
	}
	return err
}

func (t *Txn) foldKey(e *events.Event, admin events.Admin, seq events.Seq) error {
	old, err := t.Key(e.Key())
	if err != nil {
		return err
	}
	k := old
	if err := k.Evolve(e); err != nil {
		return err
	}
	k.Describe(admin, seq, t.at)
	if k.Exists() {
		t.set(idKey(keySpace, k.ID), k, &err)
	} else {
		err = errors.Join(err, t.pending.remove(idKey(keySpace, old.ID)), t.pending.remove(idKey(usageSpace, old.ID)))
	}
	err = errors.Join(err, t.movePointers(pointersTo(&old), pointersTo(&k)))
	if old.Exists() != k.Exists() {
		err = errors.Join(err, t.count(e.Project, func(p *Project) { p.Keys += sign(k.Exists()) }))
	}
	place := binary.BigEndian.AppendUint64(nil, t.streamSeq)
	return errors.Join(err, t.pending.put(historyKey(e.Key(), seq), place))
}

// movePointers writes only what differs: an attachment that ended with its deployment stays gone
// although the key still names it.
func (t *Txn) movePointers(old, now map[string][]byte) error {
	var err error
	for key := range old {
		if _, stays := now[key]; !stays {
			err = errors.Join(err, t.pending.remove([]byte(key)))
		}
	}
	for key, value := range now {
		if _, stands := old[key]; !stands {
			if key[0] == dueSpace {
				t.floor.lower([]byte(key))
			}
			err = errors.Join(err, t.pending.put([]byte(key), value))
		}
	}
	return err
}

// pointersTo is everything that leads to a key.
func pointersTo(k *projections.Key) map[string][]byte {
	if !k.Exists() {
		return nil
	}
	id := k.ID[:]
	p := map[string][]byte{
		string(nameKey(keyNameSpace, k.Project, k.Name)):                id,
		string(timeKey(keyCreatedSpace, k.Project, k.CreatedAt, k.ID)):  nil,
		string(timeKey(keyExpiringSpace, k.Project, k.ExpiresAt, k.ID)): nil,
		string(digestKey(k.Digest)):                                     id,
	}
	if !k.Grace.Digest.IsZero() {
		p[string(digestKey(k.Grace.Digest))] = id
		p[string(dueKey(k.Grace.Until, GraceDue, k.ID))] = nil
	}
	if !k.Expired && !k.ExpiresAt.IsNever() {
		p[string(dueKey(k.ExpiresAt, ExpiryDue, k.ID))] = nil
	}
	for _, d := range k.Deployments {
		p[string(attachmentKey(d, k.ID))] = nil
	}
	return p
}

func (t *Txn) foldDeployment(e *events.Event, seq events.Seq) error {
	old, err := t.Deployment(e.Deployment())
	if err != nil {
		return err
	}
	d := old
	if err := d.Evolve(e, seq, t.at); err != nil {
		return err
	}
	if old.Exists() && old.Host != "" {
		err = errors.Join(err, t.pending.remove(hostKey(old.Host)))
	}
	if d.Exists() {
		if d.Host != "" {
			err = errors.Join(err, t.pending.put(hostKey(d.Host), d.ID[:]))
		}
		err = errors.Join(err, t.pending.put(nameKey(deploymentNames, d.Project, d.Name), d.ID[:]))
		t.set(idKey(deploymentSpace, d.ID), d, &err)
	} else {
		attachments := idKey(attachmentSpace, old.ID)
		err = errors.Join(err,
			t.pending.remove(nameKey(deploymentNames, old.Project, old.Name)),
			t.pending.remove(idKey(deploymentSpace, old.ID)),
			t.pending.batch.DeleteRange(attachments, after(attachments), nil))
	}
	if old.Exists() != d.Exists() {
		err = errors.Join(err, t.count(e.Project, func(p *Project) { p.Deployments += sign(d.Exists()) }))
	}
	return err
}

// openProject takes a project's opening in. One that is repeated brings a further data key, and opens nothing.
func (t *Txn) openProject(name string, seq events.Seq) error {
	p, err := t.Project(name)
	if err == nil && p.OpenedSeq == 0 {
		t.counted[name] = Project{Name: name, OpenedAt: t.at, OpenedSeq: seq}
	}
	return err
}

// count changes a project's counts. They are written once, with the commit.
func (t *Txn) count(name string, change func(*Project)) error {
	p, err := t.Project(name)
	change(&p)
	t.counted[name] = p
	return err
}

func sign(up bool) int {
	if up {
		return 1
	}
	return -1
}

func (t *Txn) set(key []byte, value any, err *error) {
	data, e := marshal(value)
	if e == nil {
		e = t.pending.put(key, data)
	}
	*err = errors.Join(*err, e)
}
