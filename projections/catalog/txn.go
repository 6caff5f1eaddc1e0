package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// Txn is the state with the events of one commit folded in, before they are durable. At most one may be open, and
// one behind it. After an error of Fold it can only be dropped, as any that will not be committed.
type Txn struct {
	View
	catalog   *Catalog
	next      events.Seq
	streamSeq uint64
	at        events.Instant

	// The deployments that were asked for since one was last changed: most commands ask for the same few.
	deployments map[events.DeploymentID]projections.Deployment
	named       map[projectName]events.DeploymentID
}

type projectName struct{ project, name string }

// Begin opens a Txn for the commit that is to stand at the stream sequence, begin at first and be dated at. Txns that were opened
// before are committed, or never will be.
func (c *Catalog) Begin(first events.Seq, streamSeq uint64, at events.Instant) *Txn {
	if c.unseen.renew() {
		c.background.Go(func() {
			err := c.store()
			if err == nil {
				err = c.unseen.takeIn(c.db, c.closing)
			}
			if err != nil {
				c.unseen.failed.Store(true)
			}
		})
	}
	charter := c.state.Load().charter // Evolve replaces what it changes
	return c.begin(c.unstored.newest(), &charter, first, streamSeq, at)
}

// Next opens a Txn for the commit behind t's. t may still be committed, beside, and has to be before that.
func (t *Txn) Next(at events.Instant) *Txn {
	charter := *t.charter
	return t.catalog.begin(t.pending, &charter, t.next, t.streamSeq+1, at)
}

func (c *Catalog) begin(under *pending, charter *projections.Charter, first events.Seq, streamSeq uint64, at events.Instant) *Txn {
	c.unseen.turn()
	p := newPending(c.db, c.unseen, under)
	return &Txn{
		View:    View{r: p, pending: p, charter: charter, floor: c.floor},
		catalog: c, next: first, streamSeq: streamSeq, at: at,
		deployments: map[events.DeploymentID]projections.Deployment{}, named: map[projectName]events.DeploymentID{},
	}
}

// Project is View's, the counts so far included.
func (t *Txn) Project(name string) (Project, error) {
	p, err := t.View.Project(name)
	if err == nil && p.OpenedSeq > 0 {
		t.pending.count(p) // so that the next look finds it at once
	}
	return p, err
}

// Deployment is View's.
func (t *Txn) Deployment(id events.DeploymentID) (projections.Deployment, error) {
	if d, known := t.deployments[id]; known {
		return d, nil
	}
	d, err := t.View.Deployment(id)
	if err == nil && d.Exists() {
		t.deployments[id] = d
	}
	return d, err
}

// DeploymentNamed is View's.
func (t *Txn) DeploymentNamed(project, name string) (projections.Deployment, error) {
	if id, known := t.named[projectName{project, name}]; known {
		return t.Deployment(id)
	}
	d, err := t.View.DeploymentNamed(project, name)
	if err == nil && d.Exists() {
		t.deployments[d.ID], t.named[projectName{project, name}] = d, d.ID
	}
	return d, err
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
	s := *t.catalog.state.Load()
	if err := t.pass(&s, e); err != nil {
		return err
	}
	return t.commit(&s)
}

// pass moves s behind an entry whose events are folded in, and none behind them.
func (t *Txn) pass(s *state, e events.Entry) error {
	position, err := s.position.Next(e)
	if err != nil {
		return err
	}
	if position.Seq+1 != t.next {
		return fmt.Errorf("%w: folded up to Seq %d, the commit ends at %d", projections.ErrMisfit, t.next-1, position.Seq)
	}
	s.position = position
	for i := range e.Commit.Events() {
		s.tree.Add(e.Commit.Leaf(i))
	}
	return nil
}

func (t *Txn) commit(s *state) error {
	s.charter = *t.charter
	return t.catalog.take(t.pending, s)
}

func (t *Txn) fold(e *events.Event, seq events.Seq) error {
	member := t.charter.Members[e.Instance()]
	if err := t.charter.Evolve(e, seq, t.at); err != nil {
		return err
	}
	admin, err := t.catalog.ring.Open(e)
	if err != nil {
		return err
	}
	switch f := e.Fact.(type) {
	case *events.ProjectOpened:
		err = t.openProject(e.Project, f, seq)
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
		t.set(commandKey(e.Project, admin.Actor, admin.CommandID), &c, &err)
	}
	return err
}

func (t *Txn) foldKey(e *events.Event, admin events.Admin, seq events.Seq) error {
	id := e.Key()
	old, err := t.record(id)
	if err != nil {
		return err
	}
	now := keyRecord{Key: old.Key}
	if err := now.Evolve(e); err != nil {
		return err
	}
	now.Describe(admin, seq, t.at)
	if old.Exists() {
		t.place(id, old.Seq, old.StreamSeq)
	}
	if now.Exists() {
		now.StreamSeq = t.streamSeq
	} else {
		t.place(id, seq, t.streamSeq)
		t.pending.remove(idKey(usageSpace, id))
	}
	t.pending.keep(id, &now)
	var oldRoom, nowRoom [8]pointer // what most need
	t.movePointers(appendPointersTo(oldRoom[:0], &old.Key), appendPointersTo(nowRoom[:0], &now.Key))
	if old.Exists() != now.Exists() {
		return t.count(e.Project, sign(now.Exists()), 0)
	}
	return nil
}

// place writes where one of a key's events stands that its record does not lead to.
func (t *Txn) place(id events.KeyID, seq events.Seq, streamSeq uint64) {
	t.pending.list(historyKey(id, seq), binary.BigEndian.AppendUint64(nil, streamSeq))
}

// pointer is a record that leads to a key.
type pointer struct{ key, value []byte }

// movePointers writes only what differs: an attachment that ended with its deployment stays gone
// although the key still names it.
func (t *Txn) movePointers(old, now []pointer) {
	var gone map[string][]byte
	if len(old) > 0 {
		gone = make(map[string][]byte, len(old))
	}
	for _, p := range old {
		gone[string(p.key)] = p.value
	}
	for _, p := range now {
		value, stood := gone[string(p.key)]
		if !stood || !bytes.Equal(value, p.value) {
			t.point(p)
		}
		delete(gone, string(p.key))
	}
	for key := range gone {
		t.pending.remove([]byte(key))
	}
}

func (t *Txn) point(p pointer) {
	switch p.key[0] {
	case keyCreatedSpace, keyExpiringSpace, attachmentSpace:
		t.pending.list(p.key, p.value)
		return
	case dueSpace:
		t.floor.lower(p.key)
	}
	t.pending.put(p.key, p.value)
}

// appendPointersTo appends everything that leads to a key.
func appendPointersTo(p []pointer, k *projections.Key) []pointer {
	if !k.Exists() {
		return p
	}
	id := bytes.Clone(k.ID[:])
	p = append(p,
		pointer{nameKey(keyNameSpace, k.Project, k.Name), named(k)},
		pointer{timeKey(keyCreatedSpace, k.Project, k.CreatedAt, k.ID), nil},
		pointer{timeKey(keyExpiringSpace, k.Project, k.ExpiresAt, k.ID), nil},
		pointer{digestKey(k.Digest), id})
	if !k.Grace.Digest.IsZero() {
		p = append(p, pointer{digestKey(k.Grace.Digest), id}, pointer{dueKey(k.Grace.Until, GraceDue, k.ID), nil})
	}
	if !k.Expired && !k.ExpiresAt.IsNever() {
		p = append(p, pointer{dueKey(k.ExpiresAt, ExpiryDue, k.ID), nil})
	}
	for _, d := range k.Deployments {
		p = append(p, pointer{attachmentKey(d, k.ID), nil})
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
	clear(t.deployments)
	clear(t.named)
	if old.Exists() && old.Host != "" {
		t.pending.remove(hostKey(old.Host))
	}
	if d.Exists() {
		if d.Host != "" {
			t.pending.put(hostKey(d.Host), d.ID[:])
		}
		t.pending.put(nameKey(deploymentNames, d.Project, d.Name), d.ID[:])
		t.set(idKey(deploymentSpace, d.ID), d, &err)
	} else {
		t.pending.remove(nameKey(deploymentNames, old.Project, old.Name))
		t.pending.remove(idKey(deploymentSpace, old.ID))
		t.pending.unlist(idKey(attachmentSpace, old.ID))
	}
	if old.Exists() != d.Exists() {
		err = errors.Join(err, t.count(e.Project, 0, sign(d.Exists())))
	}
	return err
}

// openProject takes a project's opening in. One that is repeated brings a further data key, and opens nothing; nor does that
// of the events without a project.
func (t *Txn) openProject(name string, f *events.ProjectOpened, seq events.Seq) error {
	if f.DataKey != "" {
		var err error
		t.set(dataKeyKey(f.DataKey), DataKey{Project: name, ProjectOpened: *f}, &err)
		if t.set(sealedUnderKey(name), f.DataKey, &err); err != nil || name == "" {
			return err
		}
	}
	p, err := t.Project(name)
	if err == nil && p.OpenedSeq == 0 {
		t.pending.count(Project{Name: name, OpenedAt: t.at, OpenedSeq: seq})
	}
	return err
}

// count changes a project's counts. They are written once, with the commit.
func (t *Txn) count(name string, keys, deployments int) error {
	p, err := t.Project(name)
	p.Keys, p.Deployments = p.Keys+keys, p.Deployments+deployments
	t.pending.count(p)
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
	t.pending.put(key, data)
	*err = errors.Join(*err, e)
}
