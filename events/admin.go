package events

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
)

// Admin is what only admins may know of an event: who did it, why, and what people call things.
// Nil texts are not stated by the event; an empty Description clears it.
type Admin struct {
	Actor       string
	CommandID   string   // as the actor sent it; empty without one
	Request     [16]byte // first half of the SHA-256 of the canonical request; zero without a CommandID
	Name        *string
	Description *string
	Hint        *string
	Reason      *string
}

// AdminPart is an event's admin part as it stands in the log: plain where DataKey is empty, else
// sealed with AES-256-GCM under the project's data key of that id (see ProjectOpened).
type AdminPart struct {
	DataKey string
	Nonce   []byte // 12 bytes when sealed
	Data    []byte
}

// ErrSealed says that an admin part is sealed and the reader has no key to it, as on every PoP.
var ErrSealed = errors.New("the admin part is sealed, and its data key is not at hand")

func (a *Admin) wire(c codec) {
	c.array(7)
	c.text(&a.Actor)
	c.text(&a.CommandID)
	c.bin16(&a.Request)
	c.optionalText(&a.Name)
	c.optionalText(&a.Description)
	c.optionalText(&a.Hint)
	c.optionalText(&a.Reason)
}

func (p *AdminPart) wire(c codec) {
	c.array(3)
	c.text(&p.DataKey)
	c.bin(&p.Nonce)
	c.bin(&p.Data)
	if r, reading := c.(*reader); reading && r.err == nil && (p.DataKey == "") != (len(p.Nonce) == 0) {
		r.fail("a nonce goes with a data key")
	}
}

// Plain gives the admin part that anyone can read.
func (a Admin) Plain() AdminPart {
	w := newWriter()
	a.wire(w)
	data, _ := w.end() // a buffer takes everything
	return AdminPart{Data: data}
}

// Seal encrypts a for the event e, whose other parts it authenticates, so that no admin part can be
// moved to another event. The nonce is random: a data key must not seal more than 2^32 events
// (NIST SP 800-38D, 8.3).
func (a Admin) Seal(e *Event, dataKey string, aead cipher.AEAD) AdminPart {
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails: it ends the process instead
	return AdminPart{
		DataKey: dataKey,
		Nonce:   nonce,
		Data:    aead.Seal(nil, nonce, a.Plain().Data, sealContext(e)),
	}
}

// Open reads the event's admin part. keyOf gives a data key by id, nil when it has none; it may itself be nil.
func (e *Event) Open(keyOf func(dataKey string) cipher.AEAD) (Admin, error) {
	data := e.Admin.Data
	if e.Admin.DataKey != "" {
		var err error
		if data, err = e.unseal(keyOf); err != nil {
			return Admin{}, err
		}
	}
	var a Admin
	r := newReader(data)
	a.wire(r)
	if err := r.end(); err != nil {
		return Admin{}, fmt.Errorf("admin part of %s event: %w", e.Fact.Type(), err)
	}
	return a, nil
}

func (e *Event) unseal(keyOf func(string) cipher.AEAD) ([]byte, error) {
	var aead cipher.AEAD
	if keyOf != nil {
		aead = keyOf(e.Admin.DataKey)
	}
	if aead == nil {
		return nil, ErrSealed
	}
	if len(e.Admin.Nonce) != aead.NonceSize() {
		return nil, fmt.Errorf("%w: a nonce of %d bytes", ErrMalformed, len(e.Admin.Nonce))
	}
	data, err := aead.Open(nil, e.Admin.Nonce, e.Admin.Data, sealContext(e))
	if err != nil {
		return nil, fmt.Errorf("%w: the sealed admin part does not open with data key %q", ErrMalformed, e.Admin.DataKey)
	}
	return data, nil
}

// sealContext is what a sealed admin part is bound to: everything else that the event says.
func sealContext(e *Event) []byte {
	w := newWriter()
	tag, t := "keyfleet admin part 1", string(e.Fact.Type())
	w.array(6)
	w.text(&tag)
	w.text(&t)
	w.text(&e.Project)
	w.bin16(&e.Subject)
	w.uint(&e.Rev)
	e.Fact.wire(w)
	context, _ := w.end() // a buffer takes everything
	return context
}
