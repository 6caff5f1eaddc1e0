package verifier

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/events/slot"
)

// session is what an instance must not forget while its machine runs (rule DURABLE of docs/protocol.md): a restart goes on as
// the same instance, which is neither counted twice nor answers from before what it acknowledged. It is a file on tmpfs,
// which no copy of a disk brings along and no reboot survives, and it names its own inode, so that a copy of
// it is worth nothing.
type session struct {
	file *slot.File // nil: every start is another instance
	rec  record
}

// record is JSON. Everything that decides whether it may be used again stands in it.
type record struct {
	Place       place              `json:"place"`
	As          events.Digest      `json:"as"` // of the identity
	Instance    events.InstanceID  `json:"instance"`
	Member      bool               `json:"member"` // it has been granted something
	Ticket      head.Ticket        `json:"ticket"`
	Incarnation events.Incarnation `json:"incarnation"`
	Floor       head.Head          `json:"floor"`           // what it acknowledged
	Grant       []byte             `json:"grant,omitempty"` // signed, in use,
	Asked       time.Duration      `json:"asked"`           // and when it was asked for, since boot
	Trust       *trust             `json:"trust,omitempty"` // what was learnt of the log's keys
}

// place is where a record was written. It has no Boot where a record cannot be trusted: elsewhere than on tmpfs.
type place struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Boot   string `json:"boot"`
}

// identity is what a member is in the log: a verifier that is configured to be another is another instance.
type identity struct {
	Name    string
	PoP     string
	Serve   time.Duration
	Version string
	Data    string // directory of the index
}

// digest is short, however long the names are.
func (as identity) digest() events.Digest {
	return sha256.Sum256(fmt.Appendf(nil, "%q", []any{as.Name, as.PoP, as.Serve, as.Version, as.Data}))
}

// openSession takes the session's file for this process. previous is what the last process left: its instance, if there
// is one, is over unless it is this one's.
func openSession(dir string, as identity) (s *session, previous *record, err error) {
	s = &session{rec: record{As: as.digest(), Instance: events.NewID()}}
	if dir == "" {
		return s, nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("directory for the run of the verifier: %w", err)
	}
	file, data, err := slot.Open(filepath.Join(dir, "instance"))
	if err != nil {
		return nil, nil, fmt.Errorf("run of the verifier: %w", err)
	}
	if s.rec.Place, err = placeOf(file, dir); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("run of the verifier in %s: %w", dir, err), file.Close())
	}
	s.file = file
	var found record
	readable := json.Unmarshal(data, &found) == nil
	switch {
	case !readable || found.Place != s.rec.Place || s.rec.Place.Boot == "":
		return s, nil, nil
	case found.As == s.rec.As:
		s.rec = found
	default:
		s.rec.Trust = found.Trust
	}
	return s, &found, nil
}

// lasts reports whether the next process may go on as this instance.
func (s *session) lasts() bool { return s.file != nil && s.rec.Place.Boot != "" }

// put keeps the record. Once it returns, the next process finds it.
func (s *session) put() error {
	if !s.lasts() {
		return nil
	}
	data, err := json.Marshal(&s.rec)
	if err == nil {
		err = s.file.Put(data)
	}
	if err != nil {
		return fmt.Errorf("keep what the instance must not forget: %w", err)
	}
	return nil
}

// beginAnew is another instance from here on.
func (s *session) beginAnew() error {
	s.rec = record{Place: s.rec.Place, As: s.rec.As, Instance: events.NewID(), Trust: s.rec.Trust}
	return s.put()
}

// goOnAs takes beginAnew back.
func (s *session) goOnAs(was record) error {
	s.rec = was
	return s.put()
}

// acked keeps that everything up to h was acknowledged, before it is, and the grant in use.
func (s *session) acked(h head.Head, using *lease) error {
	if h.Seq <= s.rec.Floor.Seq {
		return nil
	}
	before := s.rec
	s.rec.Floor = h
	s.uses(using)
	err := s.put()
	if err != nil {
		s.rec = before // it is not acknowledged
	}
	return err
}

func (s *session) uses(l *lease) {
	if l != nil {
		s.rec.Grant, s.rec.Asked = l.signed, l.asked
	}
}

// granted keeps the ticket that the next renewal has to show, and the grant in use.
func (s *session) granted(g *head.Grant, using *lease) error {
	s.rec.Member, s.rec.Ticket, s.rec.Incarnation = true, g.Ticket, g.Incarnation
	s.uses(using)
	return s.put()
}

// disown keeps that no run may go on by the grant that was in use.
func (s *session) disown() error {
	s.rec.Grant = nil
	return s.put()
}

func (s *session) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
