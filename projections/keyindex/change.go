package keyindex

import (
	"bytes"
	"fmt"
	"slices"

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
	keys    family[events.KeyID, keyChange]
	places  family[events.Digest, place]
	touched map[events.DeploymentID]bool
}

type keyChange struct {
	projections.Key
	id     events.KeyID
	stored events.Digest // that the index has the key under; zero if it has no such key
}

// place is what a digest leads to.
type place struct {
	digest events.Digest
	stored []byte           // what the index has there, as it was read; nil for nothing
	key    *projections.Key // that it reads as; nil for nothing, and for an alias
	owner  events.KeyID     // of the digest after the events so far; zero for nobody
	to     *keyChange       // the owner, once an event has made it that
}

func newChange(db *store.DB, from *view, front *filler, entries []events.Entry) *change {
	n := 0
	for i := range entries {
		n += len(entries[i].Commit.Events())
	}
	return &change{
		db: db, front: front, from: from, next: *from, charter: *from.charter,
		keys: newFamily[events.KeyID, keyChange](n), places: newFamily[events.Digest, place](n),
		touched: map[events.DeploymentID]bool{},
	}
}

// family is what a change knows by id, in memory that is next to each other: a replay passes through it several times.
type family[ID comparable, T any] struct {
	byID map[ID]*T
	all  []*T
	room []T
}

func newFamily[ID comparable, T any](n int) family[ID, T] {
	return family[ID, T]{byID: make(map[ID]*T, n), all: make([]*T, 0, n)}
}

// add makes one more of them.
func (f *family[ID, T]) add(id ID) *T {
	if len(f.room) == 0 {
		const most = 256 // at a time
		f.room = make([]T, max(1, min(most, cap(f.all)-len(f.all))))
	}
	one := &f.room[0]
	f.room = f.room[1:]
	f.byID[id], f.all = one, append(f.all, one)
	return one
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
		if ahead := i + inAdvance; ahead < len(facts) {
			c.front.expect(&facts[ahead])
		}
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
	before := digestsOf(&k.Key)
	if err := k.Evolve(e); err != nil {
		return err
	}
	if after := digestsOf(&k.Key); after != before {
		return c.moveDigests(k, before, after)
	}
	return nil
}

// key gives the key as the events so far have left it; the zero Key if it does not exist.
func (c *change) key(id events.KeyID) (*keyChange, error) {
	if k, known := c.keys.byID[id]; known {
		return k, nil
	}
	k := c.keys.add(id)
	k.id = id
	if c.front.lacksKey(id) {
		return k, nil
	}
	digest, err := c.digestOf(id)
	if err == nil && !digest.IsZero() {
		err = c.fill(k, digest)
	}
	return k, err
}

// readKeys reads the keys that entries change and do not make, all of them in the order in which they are stored: to go on from the
// last one costs less than to begin anew.
func (c *change) readKeys(entries []events.Entry) error {
	var keys []*keyChange
	for i := range entries {
		facts := entries[i].Commit.Events()
		for j := range facts {
			if !changesKey(&facts[j]) {
				continue
			}
			id := facts[j].Key()
			if _, known := c.keys.byID[id]; !known && !c.front.lacksKey(id) {
				k := c.keys.add(id)
				k.id = id
				keys = append(keys, k)
			}
		}
	}
	slices.SortFunc(keys, func(a, b *keyChange) int { return bytes.Compare(a.id[:], b.id[:]) })
	for _, k := range keys {
		digest, err := c.digestOf(k.id)
		if err != nil {
			return err
		}
		k.stored = digest
	}
	slices.SortFunc(keys, func(a, b *keyChange) int { return bytes.Compare(a.stored[:], b.stored[:]) })
	for _, k := range keys {
		if k.stored.IsZero() {
			continue
		}
		if err := c.fill(k, k.stored); err != nil {
			return err
		}
	}
	return nil
}

// changesKey reports whether the event is about a key that is there before it.
func changesKey(e *events.Event) bool {
	switch e.Fact.(type) {
	case *events.Edited, *events.Attached, *events.Detached, *events.ExpiryChanged, *events.Expired, *events.Disabled, *events.Enabled,
		*events.Rotated, *events.GraceEnded, *events.Deleted:
		return true
	default:
		return false
	}
}

// digestOf is what the index has the key under; zero if it has no such key.
func (c *change) digestOf(id events.KeyID) (digest events.Digest, err error) {
	value, err := c.at(idKey(id))
	if err != nil || value == nil {
		return digest, err
	}
	r := reader{rest: value}
	r.fill(digest[:])
	return digest, r.end()
}

// fill takes the key over from the digest that the index has it under.
func (c *change) fill(k *keyChange, digest events.Digest) error {
	p, err := c.place(digest)
	if err != nil {
		return err
	}
	if p.key == nil || p.key.ID != k.id {
		return fmt.Errorf("%w: the digest of %s does not lead to it", errRecord, k.id)
	}
	k.Key, k.stored, p.to = *p.key, digest, k
	return nil
}

// moveDigests lets the key go of the digests it had and take those it has. Two living keys never share
// one: the registry refuses that, and a check could not tell them apart.
func (c *change) moveDigests(k *keyChange, before, after [2]events.Digest) error {
	for _, d := range before {
		if d.IsZero() {
			continue
		}
		p, err := c.place(d)
		if err != nil {
			return err
		}
		p.owner, p.to = events.KeyID{}, nil
	}
	for _, d := range after {
		if d.IsZero() {
			continue
		}
		p, err := c.place(d)
		if err != nil {
			return err
		}
		if p.owner != k.id && !p.owner.IsZero() {
			return fmt.Errorf("%w: the secret of %s is that of %s", projections.ErrMisfit, k.id, p.owner)
		}
		p.owner, p.to = k.id, k
	}
	return nil
}

// digestsOf are those that lead to the key; zeroes for none.
func digestsOf(k *projections.Key) [2]events.Digest {
	if !k.Exists() {
		return [2]events.Digest{}
	}
	return [2]events.Digest{k.Digest, k.Grace.Digest}
}

// place is read from the index once.
func (c *change) place(d events.Digest) (*place, error) {
	if p, known := c.places.byID[d]; known {
		return p, nil
	}
	p := c.places.add(d)
	p.digest = d
	if c.front.lacks(d) {
		return p, nil
	}
	value, err := c.at(digestKey(d))
	if p.stored = value; value != nil && err == nil {
		err = c.read(p)
	}
	return p, err
}

// read finds out whom the place belongs to. An alias belongs to the key behind it.
func (c *change) read(p *place) error {
	k, alias, err := decodeEntryAt(p.digest, p.stored)
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
		charter := c.charter // a pointer into the change would keep all of it
		next.charter = &charter
	}
	return &next
}
