package keyindex

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/store"
)

// change is what entries do to the index, worked out in memory, where later events see earlier ones, and
// then written in one batch: each record once, however many events touched it.
type change struct {
	db      *store.DB
	stored  *pebble.Iterator // of what the index has; nil until something is looked for
	front   *filler          // knows most of what it does not have; nil if there is none
	from    *view
	next    view
	charter projections.Charter
	keys    map[events.KeyID]*keyChange
	places  map[events.Digest]*place
	touched map[events.DeploymentID]bool
}

type keyChange struct {
	projections.Key
	stored events.Digest // that the index has the key under; zero if it has no such key
}

// place is what a digest leads to.
type place struct {
	stored []byte           // what the index has there, as it was read; nil for nothing
	key    *projections.Key // that it reads as; nil for nothing, and for an alias
	owner  events.KeyID     // of the digest after the events so far; zero for nobody
}

func newChange(db *store.DB, from *view, front *filler) *change {
	return &change{
		db: db, front: front, from: from, next: *from, charter: *from.charter,
		keys:    map[events.KeyID]*keyChange{},
		places:  map[events.Digest]*place{},
		touched: map[events.DeploymentID]bool{},
	}
}

// at gives a copy of what stands under key; nil for nothing.
func (c *change) at(key []byte) ([]byte, error) {
	if c.stored == nil {
		// An iterator asks the filters of the lowest level too, which Get does not: what is not there seldom costs the
		// reading of a block.
		var err error
		if c.stored, err = c.db.NewIter(&pebble.IterOptions{UseL6Filters: true}); err != nil {
			return nil, err
		}
	}
	if !c.stored.SeekPrefixGE(key) || !bytes.Equal(c.stored.Key(), key) {
		return nil, c.stored.Error()
	}
	value, err := c.stored.ValueAndErr()
	return bytes.Clone(value), err
}

func (c *change) close() error {
	if c.stored == nil {
		return nil
	}
	return c.stored.Close()
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
	if c.front.lacksKey(id) {
		c.keys[id] = k
		return k, nil
	}
	value, err := c.at(idKey(id))
	if err == nil && value != nil {
		r := reader{rest: value}
		var digest events.Digest
		r.fill(digest[:])
		if err = r.end(); err == nil {
			err = c.fill(k, id, digest)
		}
	}
	if err != nil {
		return nil, err
	}
	c.keys[id] = k
	return k, nil
}

// fill takes the key over from the digest that the index has it under.
func (c *change) fill(k *keyChange, id events.KeyID, digest events.Digest) error {
	p, err := c.place(digest)
	if err != nil {
		return err
	}
	if p.key == nil || p.key.ID != id {
		return fmt.Errorf("%w: the digest of %s does not lead to it", errRecord, id)
	}
	k.Key, k.stored = *p.key, digest
	return nil
}

// moveDigests lets the key go of the digests it had and take those it has. Two living keys never share
// one: the registry refuses that, and a check could not tell them apart.
func (c *change) moveDigests(id events.KeyID, before, after *projections.Key) error {
	for _, d := range digestsOf(before) {
		p, err := c.place(d)
		if err != nil {
			return err
		}
		p.owner = events.KeyID{}
	}
	for _, d := range digestsOf(after) {
		p, err := c.place(d)
		if err != nil {
			return err
		}
		if p.owner != id && !p.owner.IsZero() {
			return fmt.Errorf("%w: the secret of %s is that of %s", projections.ErrMisfit, id, p.owner)
		}
		p.owner = id
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

// place is read from the index once.
func (c *change) place(d events.Digest) (*place, error) {
	if p, known := c.places[d]; known {
		return p, nil
	}
	p := &place{}
	if c.front.lacks(d) {
		c.places[d] = p
		return p, nil
	}
	value, err := c.at(digestKey(d))
	if err != nil {
		return nil, err
	}
	if p.stored = value; value != nil {
		if err := c.read(p, d); err != nil {
			return nil, err
		}
	}
	c.places[d] = p
	return p, nil
}

// read finds out whom the place belongs to. An alias belongs to the key behind it.
func (c *change) read(p *place, d events.Digest) error {
	k, alias, err := decodeEntryAt(d, p.stored)
	switch {
	case err != nil:
		return err
	case alias.IsZero():
		p.key, p.owner = &k, k.ID
		return nil
	}
	behind, err := c.at(digestKey(alias))
	if err != nil || behind == nil {
		return err
	}
	current, _, err := decodeEntryAt(alias, behind)
	p.owner = current.ID
	return err
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
