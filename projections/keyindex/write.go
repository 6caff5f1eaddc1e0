package keyindex

import (
	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/store"
)

// writes lays out what the change comes to, and puts it into the digest. A record that goes is taken out of the digest as it was
// read, not as it should have been: damage then shows, instead of going with it.
func (c *change) writes() (*store.Writes, error) {
	w := newWriter(c.from.digest, len(c.keys.all)+len(c.places.all))
	if err := c.writeCharter(&w); err != nil {
		return nil, err
	}
	if err := c.writeDeployments(&w); err != nil {
		return nil, err
	}
	for _, k := range c.keys.all {
		if k.stored != k.Digest {
			w.replace(idKey(k.id), textOf(k.stored), textOf(k.Digest))
		}
	}
	var room [256]byte
	for _, p := range c.places.all {
		w.replace(digestKey(p.digest), p.stored, p.entry(room[:0]))
	}
	c.next.digest = w.sum.digest()
	w.writes.Set(positionKey, encodePosition(c.next.position, c.next.digest))
	return &w.writes, nil
}

// entry appends what has to stand under the digest to b; nil for nothing.
func (p *place) entry(b []byte) []byte {
	switch {
	case p.owner.IsZero():
		return nil
	case p.digest == p.to.Digest:
		return appendKey(b, &p.to.Key)
	default:
		return appendAlias(b, p.to.Digest)
	}
}

// textOf is what stands under a key's id; nil for the zero digest, which no key has.
func textOf(d events.Digest) []byte {
	if d.IsZero() {
		return nil
	}
	return d[:]
}

func (c *change) writeDeployments(w *writer) error {
	for id := range c.touched {
		key := deploymentKey(id)
		stored, err := c.at(key)
		if err != nil {
			return err
		}
		var next []byte
		if d := c.next.deployments.byID[id]; d != nil {
			next = encodeDeployment(&d.Deployment)
		}
		w.replace(key, stored, next)
	}
	return nil
}

func (c *change) writeCharter(w *writer) error {
	if !c.charterChanged() {
		return nil
	}
	stored, err := c.at(charterKey)
	if err != nil {
		return err
	}
	next, err := encodeCharter(&c.charter)
	if err != nil {
		return err
	}
	w.replace(charterKey, stored, next)
	return nil
}

// writer gathers what is to be written, and keeps the digest with it.
type writer struct {
	sum    recordSum
	writes store.Writes
	room   []byte // for a record
}

func newWriter(digest events.Digest, records int) writer {
	const usual = 100 // bytes of a record
	return writer{sum: sumOf(digest), writes: store.NewWrites(records+1, records*usual)}
}

// replace puts next where old stands; nil is no record.
func (w *writer) replace(key, old, next []byte) {
	if old != nil {
		w.sum.subtract(w.record(key, old))
	}
	if next != nil {
		w.sum.add(w.record(key, next))
		w.writes.Set(key, next)
	} else if old != nil {
		w.writes.Delete(key)
	}
}

// record is as the digest takes it, until the next one.
func (w *writer) record(key, value []byte) []byte {
	w.room = appendRecord(w.room[:0], key, value)
	return w.room
}
