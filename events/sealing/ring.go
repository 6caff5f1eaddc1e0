package sealing

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/keyfleet/keyfleet/events"
)

// Ring has the data keys of a log, as it comes upon them. A nil Ring opens what is plain. It is safe for concurrent use.
type Ring struct {
	keys Keys

	mu   sync.RWMutex
	data map[string]cipher.AEAD // by data key's id
}

// NewRing makes a Ring that unwraps with the keys. Without any it opens what is plain.
func NewRing(keys Keys) *Ring { return &Ring{keys: keys, data: map[string]cipher.AEAD{}} }

// Seals reports whether there is a sealing key to wrap data keys with.
func (r *Ring) Seals() bool { return r != nil && len(r.keys) > 0 }

// Wraps reports whether new data keys are wrapped by the sealing key of that id.
func (r *Ring) Wraps(sealingKey string) bool { return r.Seals() && r.keys[0].id == sealingKey }

// Unwraps reports whether the sealing key of that id is at hand.
func (r *Ring) Unwraps(sealingKey string) bool {
	return r != nil && slices.ContainsFunc(r.keys, func(k wrapper) bool { return k.id == sealingKey })
}

// NewDataKey makes a data key for a project, of which the events without a project are one. It seals once it stands in the
// log.
func (r *Ring) NewDataKey(project string) *events.ProjectOpened {
	dataKey, name := make([]byte, keyBytes), make([]byte, 8)
	_, _ = rand.Read(dataKey)
	_, _ = rand.Read(name)
	f := &events.ProjectOpened{DataKey: "dk_" + hex.EncodeToString(name), WrappedBy: r.keys[0].id}
	f.Wrapped = r.keys[0].wrap(dataKey, project, f.DataKey)
	return f
}

// Learn takes in the data key that a project_opened brings, if it is wrapped by one of the keys.
func (r *Ring) Learn(project string, f *events.ProjectOpened) error {
	if r == nil || f.DataKey == "" {
		return nil
	}
	for _, k := range r.keys {
		if k.id != f.WrappedBy {
			continue
		}
		dataKey, err := k.unwrap(f.Wrapped, project, f.DataKey)
		if err != nil {
			return fmt.Errorf("%w: %w", events.ErrMalformed, err)
		}
		r.mu.Lock()
		r.data[f.DataKey] = newAEAD(dataKey)
		r.mu.Unlock()
	}
	return nil
}

// Open reads an event's admin part, and learns what data key it brings. events.ErrSealed says that no key is at hand.
func (r *Ring) Open(e *events.Event) (events.Admin, error) {
	if f, opens := e.Fact.(*events.ProjectOpened); opens {
		if err := r.Learn(e.Project, f); err != nil {
			return events.Admin{}, err
		}
	}
	return e.Open(r.aead)
}

// Seal seals an event's admin part, which is plain so far, under a data key that was learnt.
func (r *Ring) Seal(e *events.Event, dataKey string) error {
	admin, err := e.Open(nil)
	if err != nil {
		return err
	}
	aead := r.aead(dataKey)
	if aead == nil {
		return fmt.Errorf("%w: %s is not known", events.ErrSealed, dataKey)
	}
	e.Admin = admin.Seal(e, dataKey, aead)
	return nil
}

func (r *Ring) aead(dataKey string) cipher.AEAD {
	if r == nil {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.data[dataKey]
}
