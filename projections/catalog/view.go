package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// View reads one state of the catalog. Methods that find nothing return a zero value and no error;
// every error is one of the disk.
type View struct {
	r       reader
	pending *pending // nil where nothing is read but the database
	charter *projections.Charter
	floor   *floor // of the calendar
}

// Project is what the catalog knows of a project. The zero Project was never opened.
type Project struct {
	Name        string
	OpenedAt    events.Instant
	OpenedSeq   events.Seq
	Keys        int // living ones
	Deployments int
}

// Command is what is remembered of a command that took effect.
type Command struct {
	Request [16]byte   // see events.Admin
	Seq     events.Seq // of its last event
	Subject [16]byte   // the key or deployment that it was about
}

// Charter is what the log says of itself. It must not be written to.
func (v *View) Charter() *projections.Charter { return v.charter }

// Key finds a key by its id.
func (v *View) Key(id events.KeyID) (projections.Key, error) {
	r, err := v.record(id)
	return r.Key, err
}

// KeyNamed finds a key by its name.
func (v *View) KeyNamed(project, name string) (projections.Key, error) {
	return v.keyAt(nameKey(keyNameSpace, project, name))
}

// KeyWithDigest finds the key whose secret, present or in its grace, has the digest.
func (v *View) KeyWithDigest(d events.Digest) (projections.Key, error) {
	return v.keyAt(digestKey(d))
}

func (v *View) keyAt(pointer []byte) (projections.Key, error) {
	id, err := v.getID(pointer)
	if err != nil || id == ([16]byte{}) {
		return projections.Key{}, err
	}
	return v.Key(id)
}

// Deployment finds a deployment by its id.
func (v *View) Deployment(id events.DeploymentID) (d projections.Deployment, err error) {
	d, _, err = get[projections.Deployment](v, idKey(deploymentSpace, id))
	return d, err
}

// DeploymentNamed finds a deployment by its name.
func (v *View) DeploymentNamed(project, name string) (projections.Deployment, error) {
	return v.deploymentAt(nameKey(deploymentNames, project, name))
}

// DeploymentAtHost finds the deployment that a host name leads to.
func (v *View) DeploymentAtHost(host string) (projections.Deployment, error) {
	return v.deploymentAt(hostKey(host))
}

func (v *View) deploymentAt(pointer []byte) (projections.Deployment, error) {
	id, err := v.getID(pointer)
	if err != nil || id == ([16]byte{}) {
		return projections.Deployment{}, err
	}
	return v.Deployment(id)
}

// Project finds a project by its name.
func (v *View) Project(name string) (p Project, err error) {
	if p, known := v.pending.project(name); known {
		return p, nil
	}
	p, _, err = get[Project](v, projectKey(name))
	return p, err
}

// Projects are all there are, by name.
func (v *View) Projects() ([]Project, error) {
	var all []Project
	err := v.scan([]byte{projectSpace}, func(_, value []byte) (bool, error) {
		var p Project
		err := unmarshal(value, &p)
		all = append(all, p)
		return true, err
	})
	return all, err
}

// Command finds a command that took effect, by the id that its actor gave it.
func (v *View) Command(project, actor, id string) (c Command, found bool, err error) {
	return get[Command](v, commandKey(project, actor, id))
}

// Order is by what a listing of keys is sorted.
type Order byte

// The orders.
const (
	ByName Order = iota
	ByCreated
	ByExpiry
)

// Keys calls yield with the project's keys in order, but for so many of the first, until it returns false. Keys that are
// skipped are not read.
func (v *View) Keys(project string, by Order, descending bool, skip int, yield func(*projections.Key) (bool, error)) error {
	space := map[Order]byte{ByName: keyNameSpace, ByCreated: keyCreatedSpace, ByExpiry: keyExpiringSpace}[by]
	each := func(pointer, value []byte) (bool, error) {
		if skip > 0 {
			skip--
			return true, nil
		}
		id, err := listed(by, pointer, value)
		if err != nil {
			return false, err
		}
		k, err := v.Key(id)
		if err != nil {
			return false, err
		}
		return yield(&k)
	}
	return v.within(nameKey(space, project, ""), descending, each)
}

// Deployments calls yield with the project's deployments by name, until it returns false.
func (v *View) Deployments(project string, descending bool, yield func(*projections.Deployment) (bool, error)) error {
	return v.within(nameKey(deploymentNames, project, ""), descending, func(_, value []byte) (bool, error) {
		d, err := v.Deployment(events.DeploymentID(value))
		if err != nil {
			return false, err
		}
		return yield(&d)
	})
}

// Attached calls yield with each key that is attached to the deployment, until it returns false.
func (v *View) Attached(d events.DeploymentID, yield func(events.KeyID) (bool, error)) error {
	return v.scan(idKey(attachmentSpace, d), func(key, _ []byte) (bool, error) {
		return yield(events.KeyID(key[len(key)-len(events.KeyID{}):]))
	})
}

// Place is where one of a key's events stands.
type Place struct {
	Seq       events.Seq
	StreamSeq uint64 // of the commit that holds it
}

// History calls yield with the places of the key's events, the newest first, until it returns false.
// It knows those of deleted keys too.
func (v *View) History(id events.KeyID, yield func(Place) (bool, error)) error {
	newest, err := v.record(id)
	if err != nil {
		return err
	}
	before := after(idKey(historySpace, id))
	if newest.Exists() {
		if more, err := yield(Place{Seq: newest.Seq, StreamSeq: newest.StreamSeq}); err != nil || !more {
			return err
		}
		before = historyKey(id, newest.Seq) // a Reader may iterate over a newer state than it found the key in
	}
	return v.walk(idKey(historySpace, id), before, true, func(key, value []byte) (bool, error) {
		return yield(Place{
			Seq:       events.Seq(binary.BigEndian.Uint64(key[17:])),
			StreamSeq: binary.BigEndian.Uint64(value),
		})
	})
}

func (v *View) scan(prefix []byte, yield func(key, value []byte) (bool, error)) error {
	return v.within(prefix, false, yield)
}

func (v *View) within(prefix []byte, backwards bool, yield func(key, value []byte) (bool, error)) error {
	return v.walk(prefix, after(prefix), backwards, yield)
}

func (v *View) walk(from, to []byte, backwards bool, yield func(key, value []byte) (bool, error)) error {
	it, err := v.r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	step, valid := it.Next, it.First()
	if backwards {
		step, valid = it.Prev, it.Last()
	}
	for more := true; valid && more; valid = step() {
		if more, err = yield(it.Key(), it.Value()); err != nil || !more {
			break
		}
	}
	return errors.Join(err, it.Error(), it.Close())
}

// get finds what was stored under key.
func get[T any](v *View, key []byte) (value T, found bool, err error) {
	data, closer, err := v.r.Get(key)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return value, false, nil
	case err != nil:
		return value, false, fmt.Errorf("read catalog: %w", err)
	}
	defer func() { _ = closer.Close() }()
	stored := new(T) // only now: most of what is asked for is not there
	err = unmarshal(data, stored)
	return *stored, err == nil, err
}

func (v *View) getID(key []byte) (id [16]byte, err error) {
	value, closer, err := v.r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return id, nil
	}
	if err != nil {
		return id, fmt.Errorf("read catalog: %w", err)
	}
	copy(id[:], value) // a name leads to more than an id, see named
	return id, closer.Close()
}

// encoder writes into its own buffer.
type encoder struct {
	*msgpack.Encoder
	buf bytes.Buffer
}

var encoders sync.Pool

func newEncoder() *encoder {
	if e, kept := encoders.Get().(*encoder); kept {
		return e
	}
	e := &encoder{}
	e.Encoder = msgpack.NewEncoder(&e.buf)
	e.UseArrayEncodedStructs(true)
	return e
}

// encode shows use how v is stored. It is not to be kept.
func encode(v any, use func(data []byte)) error {
	e := newEncoder()
	defer encoders.Put(e)
	e.buf.Reset()
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode catalog record: %w", err)
	}
	use(e.buf.Bytes())
	return nil
}

func marshal(v any) (data []byte, err error) {
	err = encode(v, func(stored []byte) { data = bytes.Clone(stored) })
	return data, err
}

// unmarshal passes over the record once before it decodes: the decoder makes room for as many elements as a list
// announces, and a damaged record may announce billions.
func unmarshal(data []byte, into any) error {
	err := msgpack.NewDecoder(bytes.NewReader(data)).Skip()
	if err == nil {
		err = msgpack.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("catalog record: %w", err)
	}
	return nil
}
