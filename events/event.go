package events

import (
	"errors"
	"fmt"
)

// Seq is an event's position in the log, dense from 1.
type Seq uint64

// Event is one fact, of whom, by whom.
//
// On the wire it is the msgpack array [type, project, subject, rev, edge, admin], where edge is the
// array of the fact's fields and admin is AdminPart's. These bytes are a leaf of the log's Merkle
// tree (RFC 6962: leaf hash = SHA-256(0x00 || bytes)).
type Event struct {
	Project string   // empty for events of the log and the fleet
	Subject [16]byte // the KeyID, DeploymentID or InstanceID; zero for events of the log or a project
	Rev     uint64   // the subject's revision once the event is folded in, dense from 1; 0 without a subject
	Fact    Fact
	Admin   AdminPart
}

// Key is the subject of a key's event.
func (e *Event) Key() KeyID { return e.Subject }

// Deployment is the subject of a deployment's event.
func (e *Event) Deployment() DeploymentID { return e.Subject }

// Instance is the subject of a verifier's event.
func (e *Event) Instance() InstanceID { return e.Subject }

// ErrUnknownType says that an event's type is not of this binary's schema: a reader must stop, never guess.
var ErrUnknownType = errors.New("unknown event type: this binary is older than the log; upgrade it")

// Encode gives the event's bytes for the log.
func (e *Event) Encode() ([]byte, error) {
	w := newWriter()
	w.array(6)
	t := string(e.Fact.Type())
	w.text(&t)
	w.text(&e.Project)
	w.bin16(&e.Subject)
	w.uint(&e.Rev)
	e.Fact.wire(w)
	e.Admin.wire(w)
	leaf, err := w.end()
	if err != nil {
		return nil, fmt.Errorf("encode %s event: %w", t, err)
	}
	return leaf, nil
}

// DecodeEvent reads an event's bytes. Errors wrap ErrMalformed or ErrUnknownType. The event's byte
// strings are slices of data.
func DecodeEvent(data []byte) (e Event, err error) {
	if err = newReader(data).event(&e); err != nil {
		return Event{}, err
	}
	return e, nil
}

func (r *reader) event(e *Event) error {
	r.array(6)
	t := r.textBytes()
	if project := r.textBytes(); string(project) != r.project {
		r.project = string(project)
	}
	e.Project = r.project
	r.bin16(&e.Subject)
	r.uint(&e.Rev)
	if r.err != nil {
		return r.err
	}
	if e.Fact = newFact(t); e.Fact == nil {
		return fmt.Errorf("%w: %.40q", ErrUnknownType, t)
	}
	e.Fact.wire(r)
	e.Admin.wire(r)
	if err := r.end(); err != nil {
		return fmt.Errorf("%s event: %w", e.Fact.Type(), err)
	}
	return nil
}
