package events

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// What one commit may hold.
const (
	Schema          = 1 // the newest schema that this binary writes and understands
	MaxCommitEvents = 1000
	MaxCommitBytes  = 512 << 10
)

// commitRoom is kept free in a commit for everything but its events.
const commitRoom = 256

// Commit is the unit of append: one message in the log, all or nothing, that holds the events of
// one or many commands. All of one command's events are in one commit.
//
// On the wire it is the msgpack array [schema, incarnation, term, first, parent, time, prompt,
// events], where each event is a byte string.
type Commit struct {
	Schema      uint64
	Incarnation Incarnation
	Term        uint64    // of the registry that wrote it; 0 for the commit that opens the log
	First       Seq       // of its first event
	Parent      ChainHash // of the commit before; zero for the first
	Time        Instant   // the registry's clock, never before the previous commit's
	Prompt      bool      // it holds a waited-for revocation: readers acknowledge at once

	events []Event
	leaves [][]byte
	size   int
}

// ErrUnknownSchema says that a commit is of a schema that this binary does not know.
var ErrUnknownSchema = errors.New("unknown commit schema: this binary is older than the log; upgrade it")

// ErrCommitFull says that an event does not fit in a commit any more.
var ErrCommitFull = errors.New("the commit is full")

// Events are the commit's events in order; the first has Seq First.
func (c *Commit) Events() []Event { return c.events }

// Leaf is the bytes of event i as they stand in the log.
func (c *Commit) Leaf(i int) []byte { return c.leaves[i] }

// Last is the Seq of the commit's last event.
func (c *Commit) Last() Seq { return c.First + Seq(len(c.events)) - 1 }

// Add appends all of one command's events, or none of them and ErrCommitFull.
func (c *Commit) Add(es ...Event) error {
	if len(c.events)+len(es) > MaxCommitEvents {
		return ErrCommitFull
	}
	leaves, size := c.leaves, c.size
	for i := range es {
		leaf, err := es[i].Encode()
		if err != nil {
			return err
		}
		leaves = append(leaves, leaf)
		size += len(leaf) + 5 // a byte string's longest header
	}
	if size > MaxCommitBytes-commitRoom {
		return ErrCommitFull
	}
	c.events, c.leaves, c.size = append(c.events, es...), leaves, size
	return nil
}

// Grow makes room for so many more events at once.
func (c *Commit) Grow(n int) {
	c.events, c.leaves = slices.Grow(c.events, n), slices.Grow(c.leaves, n)
}

// Encode gives the commit's body for the log.
func (c *Commit) Encode() ([]byte, error) {
	w := newWriter()
	w.buf.Grow(c.size + commitRoom)
	c.wireHead(w)
	w.array(len(c.leaves))
	for i := range c.leaves {
		w.bin(&c.leaves[i])
	}
	body, err := w.end()
	if err != nil {
		return nil, fmt.Errorf("encode commit: %w", err)
	}
	return body, nil
}

func (c *Commit) wireHead(w codec) {
	w.array(8)
	w.uint(&c.Schema)
	w.bin16((*[16]byte)(&c.Incarnation))
	w.uint(&c.Term)
	w.uint((*uint64)(&c.First))
	w.bin32((*[32]byte)(&c.Parent))
	w.instant(&c.Time)
	w.flag(&c.Prompt)
}

// DecodeCommit reads a commit's body. Errors wrap ErrMalformed, ErrUnknownSchema or
// ErrUnknownType. The commit's byte strings are slices of body.
func DecodeCommit(body []byte) (*Commit, error) {
	if len(body) > MaxCommitBytes {
		return nil, fmt.Errorf("%w: a commit of %d bytes; at most %d are allowed", ErrMalformed, len(body), MaxCommitBytes)
	}
	c := &Commit{}
	r := newReader(body)
	c.wireHead(schemaFirst{r})
	if r.err != nil {
		return nil, fmt.Errorf("commit: %w", r.err)
	}
	if c.Time.IsNever() {
		r.fail("a commit has a time")
	}
	n := r.count(2)
	if n > MaxCommitEvents || n == 0 {
		r.fail("a commit holds 1 to %d events, not %d", MaxCommitEvents, n)
	}
	if r.err == nil && (c.First == 0 || c.First+Seq(n) < c.First) {
		r.fail("%d events cannot begin at Seq %d", n, c.First)
	}
	if r.err != nil {
		return nil, fmt.Errorf("commit: %w", r.err)
	}
	c.events, c.leaves = make([]Event, n), make([][]byte, n)
	leaf := &reader{} // one for all: it is on the heap
	for i := range n {
		r.bin(&c.leaves[i])
		if r.err != nil {
			break
		}
		*leaf = reader{data: c.leaves[i], behind: n - i - 1, project: leaf.project, room: leaf.room}
		if err := leaf.event(&c.events[i]); err != nil {
			return nil, fmt.Errorf("commit: Seq %d: %w", c.First+Seq(i), err)
		}
		c.size += len(c.leaves[i]) + 5
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return c, nil
}

// schemaFirst refuses an unknown schema before anything else of the commit is read: what follows
// may have another form there.
type schemaFirst struct{ *reader }

func (r schemaFirst) array(int) {
	n := r.count(1)
	var schema uint64
	if code := r.peek(); r.err == nil && code <= 0x7f {
		schema = uint64(code)
	}
	switch {
	case r.err != nil:
	case schema == 0:
		r.fail("want a schema, the first of which is 1")
	case schema > Schema:
		r.err = fmt.Errorf("%w: %d, newest known is %d", ErrUnknownSchema, schema, Schema)
	case n != 8:
		r.fail("want an array of 8 values, found %d", n)
	}
}

// HashCommit gives the chain hash of a commit's body.
func HashCommit(body []byte) ChainHash {
	h := sha256.New()
	h.Write([]byte("keyfleet commit 1\n"))
	h.Write(body)
	return ChainHash(h.Sum(nil))
}
