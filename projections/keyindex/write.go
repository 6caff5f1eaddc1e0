package keyindex

import (
	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
)

// write puts the change into a batch, and into the digest. A record that goes is taken out of the digest as it was
// read, not as it should have been: damage then shows, instead of going with it.
func (c *change) write(b *pebble.Batch) error {
	w := writer{b: b, sum: sumOf(c.from.digest)}
	if err := c.writeCharter(&w); err != nil {
		return err
	}
	if err := c.writeDeployments(&w); err != nil {
		return err
	}
	for _, k := range c.keys.all {
		if k.stored != k.Digest {
			w.replace(idKey(k.id), textOf(k.stored), textOf(k.Digest))
		}
	}
	for _, p := range c.places.all {
		w.replace(digestKey(p.digest), p.stored, p.entry())
	}
	c.next.digest = w.sum.digest()
	w.set(positionKey, encodePosition(c.next.position, c.next.digest))
	return w.err
}

// entry is what has to stand under the digest; nil for nothing.
func (p *place) entry() []byte {
	switch {
	case p.owner.IsZero():
		return nil
	case p.digest == p.to.Digest:
		return encodeKey(&p.to.Key)
	default:
		return encodeAlias(p.to.Digest)
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

// writer fills a batch and keeps the digest with it. It keeps the first error.
type writer struct {
	b   *pebble.Batch
	sum recordSum
	err error
}

// replace puts next where old stands; nil is no record.
func (w *writer) replace(key, old, next []byte) {
	if old != nil {
		w.sum.subtract(key, old)
	}
	if next != nil {
		w.sum.add(key, next)
		w.set(key, next)
	} else if old != nil && w.err == nil {
		w.err = w.b.Delete(key, nil)
	}
}

func (w *writer) set(key, value []byte) {
	if w.err == nil {
		w.err = w.b.Set(key, value, nil)
	}
}
