package keyindex

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// change is what entries do to the index, worked out in memory, where later events see earlier ones, and
// then written in one batch: each record once, however many events touched it.
type change struct {
	db      *pebble.DB
	from    *view
	next    view
	charter projections.Charter
	keys    map[events.KeyID]*keyChange
	owners  map[events.Digest]events.KeyID // of digests that moved; the zero id for those that fell free
	touched map[events.DeploymentID]bool
}

type keyChange struct {
	projections.Key
	stored events.Digest // that the index has the key under; zero if it has no such key
}

func newChange(db *pebble.DB, from *view) *change {
	return &change{
		db: db, from: from, next: *from, charter: *from.charter,
		keys:    map[events.KeyID]*keyChange{},
		owners:  map[events.Digest]events.KeyID{},
		touched: map[events.DeploymentID]bool{},
	}
}

func (c *change) fold(entry events.Entry) error {
	position, err := c.next.position.Next(entry)
	if err != nil {
		return err
	}
	facts := entry.Commit.Events()
	for i := range facts {
		seq := entry.Commit.First + events.Seq(i)
		if err := c.foldEvent(&facts[i], seq, entry.Commit.Time); err != nil {
			return fmt.Errorf("apply Seq %d: %w", seq, err)
		}
	}
	c.next.position = position
	return nil
}

func (c *change) foldEvent(e *events.Event, seq events.Seq, at events.Instant) error {
	if err := c.charter.Evolve(e, seq, at); err != nil {
		return err
	}
	switch e.Fact.(type) {
	case *events.LogOpened, *events.TermOpened, *events.SchemaRaised, *events.SettingChanged,
		*events.SigningKeyAdded, *events.SigningKeyRetired, *events.ProjectOpened,
		*events.VerifierRegistered, *events.VerifierLeft:
		return nil
	case *events.DeploymentRegistered, *events.DeploymentEdited, *events.DeploymentRemoved:
		return c.foldDeployment(e, seq, at)
	default:
		return c.foldKey(e)
	}
}

func (c *change) foldDeployment(e *events.Event, seq events.Seq, at events.Instant) error {
	if c.next.deployments == c.from.deployments {
		c.next.deployments = c.from.deployments.clone()
	}
	c.touched[e.Deployment()] = true
	return c.next.deployments.evolve(e, seq, at)
}

func (c *change) foldKey(e *events.Event) error {
	k, err := c.key(e.Key())
	if err != nil {
		return err
	}
	before := k.Key
	if err := k.Evolve(e); err != nil {
		return err
	}
	if before.Digest == k.Digest && before.Grace.Digest == k.Grace.Digest {
		return nil
	}
	return c.moveDigests(e.Key(), &before, &k.Key)
}

// key gives the key as the events so far have left it; the zero Key if it does not exist.
func (c *change) key(id events.KeyID) (*keyChange, error) {
	if k, known := c.keys[id]; known {
		return k, nil
	}
	k := &keyChange{}
	var digest events.Digest
	found, err := get(c.db, idKey(id), func(value []byte) error {
		r := reader{rest: value}
		r.fill(digest[:])
		return r.end()
	})
	if err == nil && found {
		k.Key, err = findCurrent(c.db, digest)
		k.stored = digest
		if err == nil && k.ID != id {
			err = fmt.Errorf("%w: the digest of %s leads to %s", errRecord, id, k.ID)
		}
	}
	if err != nil {
		return nil, err
	}
	c.keys[id] = k
	return k, nil
}

// moveDigests lets the key go of the digests it had and take those it has. Two living keys never share
// one: the registry refuses that, and a check could not tell them apart.
func (c *change) moveDigests(id events.KeyID, before, after *projections.Key) error {
	for _, d := range digestsOf(before) {
		c.owners[d] = events.KeyID{}
	}
	for _, d := range digestsOf(after) {
		owner, err := c.owner(d)
		if err != nil {
			return err
		}
		if owner != id && !owner.IsZero() {
			return fmt.Errorf("%w: the secret of %s is that of %s", projections.ErrMisfit, id, owner)
		}
		c.owners[d] = id
	}
	return nil
}

// digestsOf are those that lead to the key.
func digestsOf(k *projections.Key) []events.Digest {
	switch {
	case !k.Exists():
		return nil
	case k.Grace.Digest.IsZero():
		return []events.Digest{k.Digest}
	default:
		return []events.Digest{k.Digest, k.Grace.Digest}
	}
}

func (c *change) owner(d events.Digest) (events.KeyID, error) {
	if id, known := c.owners[d]; known {
		return id, nil
	}
	k, err := find(c.db, d)
	return k.ID, err
}

// write puts the change into a batch.
func (c *change) write(b *pebble.Batch) error {
	w := writer{b: b}
	for d, owner := range c.owners {
		k := c.keys[owner]
		switch {
		case owner.IsZero():
			w.drop(digestKey(d))
		case d != k.Digest:
			w.set(digestKey(d), encodeAlias(k.Digest))
		}
	}
	for id, k := range c.keys {
		switch {
		case !k.Exists():
			w.drop(idKey(id))
			continue
		case k.stored != k.Digest:
			w.set(idKey(id), k.Digest[:])
		}
		w.set(digestKey(k.Digest), encodeKey(&k.Key))
	}
	for id := range c.touched {
		if d := c.next.deployments.byID[id]; d != nil {
			w.set(deploymentKey(id), encodeDeployment(d))
		} else {
			w.drop(deploymentKey(id))
		}
	}
	if c.charterChanged() {
		charter, err := encodeCharter(&c.charter)
		if err != nil {
			return err
		}
		w.set(charterKey, charter)
	}
	w.set(positionKey, encodePosition(c.next.position))
	return w.err
}

func (c *change) charterChanged() bool { return c.charter.ChangedAt != c.from.charter.ChangedAt }

// result is what readers see once the batch is written.
func (c *change) result() *view {
	next := c.next
	if c.charterChanged() {
		next.charter = &c.charter
	}
	return &next
}

// writer keeps the first error of a batch.
type writer struct {
	b   *pebble.Batch
	err error
}

func (w *writer) set(key, value []byte) {
	if w.err == nil {
		w.err = w.b.Set(key, value, nil)
	}
}

func (w *writer) drop(key []byte) {
	if w.err == nil {
		w.err = w.b.Delete(key, nil)
	}
}
