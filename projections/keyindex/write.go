package keyindex

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/store"
)

// batch puts the change into a batch, and into the digest. A record that goes is taken out of the digest as it was
// read, not as it should have been: damage then shows, instead of going with it.
func (c *change) batch() (*pebble.Batch, error) {
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
	w.set(positionKey, encodePosition(c.next.position, c.next.digest))
	return w.batch(c.db)
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

// writer lays out what a batch will hold, and keeps the digest with it.
type writer struct {
	sum     recordSum
	text    []byte // records one behind the other, each as the digest takes it
	written []written
}

// written is a record in a writer's text.
type written struct {
	prefix uint64 // of the key
	at     int    // in text
	gone   bool   // it is to be deleted, and has no value
}

func newWriter(digest events.Digest, records int) writer {
	const usual = 100 // bytes of a record
	return writer{
		sum: sumOf(digest), text: make([]byte, 0, records*usual), written: make([]written, 0, records+1),
	}
}

// replace puts next where old stands; nil is no record.
func (w *writer) replace(key, old, next []byte) {
	if old != nil {
		w.sum.subtract(appendRecord(w.text[len(w.text):], key, old))
	}
	if next != nil {
		w.sum.add(w.append(key, next, false))
	} else if old != nil {
		w.append(key, nil, true)
	}
}

// set is replace for what the digest is not of.
func (w *writer) set(key, value []byte) { w.append(key, value, false) }

func (w *writer) append(key, value []byte, gone bool) (record []byte) {
	var prefix [8]byte
	copy(prefix[:], key)
	at := len(w.text)
	w.written = append(w.written, written{binary.BigEndian.Uint64(prefix[:]), at, gone})
	w.text = appendRecord(w.text, key, value)
	return w.text[at:]
}

// batch is everything, in order: the store sorts what is large, and does so slowly unless that was done.
func (w *writer) batch(db *store.DB) (*pebble.Batch, error) {
	slices.SortFunc(w.written, func(a, b written) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		keyA, _ := splitRecord(w.text[a.at:])
		keyB, _ := splitRecord(w.text[b.at:])
		return bytes.Compare(keyA, keyB)
	})
	const header = 16 // of a batch, and as much more of a record than in text
	b := db.NewBatchWithSize(len(w.text) + header*(1+len(w.written)))
	for _, r := range w.written {
		var err error
		if key, value := splitRecord(w.text[r.at:]); r.gone {
			err = b.Delete(key, nil)
		} else {
			err = b.Set(key, value, nil)
		}
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}
