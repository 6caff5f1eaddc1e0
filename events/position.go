package events

import (
	"errors"
	"fmt"
)

// Position is how far a reader has come: behind the last commit that it took in. The zero Position
// is before the beginning of any log.
type Position struct {
	Incarnation Incarnation `json:"incarnation"`
	Seq         Seq         `json:"seq"`        // of the last event
	Chain       ChainHash   `json:"chain"`      // of the last commit
	Term        uint64      `json:"term"`       // newest term seen
	Time        Instant     `json:"time"`       // of the last commit
	StreamSeq   uint64      `json:"stream_seq"` // of the message that held it. A hint: Seq, Incarnation and Chain decide.
}

// Why a commit does not follow a position. A reader that meets one of these has not read
// the log: it must not apply anything further.
var (
	// ErrGap: commits are missing in between. Reading again may bring them.
	ErrGap = errors.New("gap in the log")
	// ErrFork: another history stands at this place. Final.
	ErrFork = errors.New("fork: the log tells another history than before")
	// ErrIncarnation: it is another log. Final.
	ErrIncarnation = errors.New("another incarnation of the log")
)

// Entry is one commit as read from the log.
type Entry struct {
	Commit    *Commit
	Chain     ChainHash // of Commit
	StreamSeq uint64
}

// Next gives the position behind e, which must be the very next commit: its first Seq, its parent
// and its incarnation follow p. Errors wrap ErrGap, ErrFork or ErrIncarnation.
func (p Position) Next(e Entry) (Position, error) {
	c := e.Commit
	switch {
	case p.Seq > 0 && c.Incarnation != p.Incarnation:
		return p, fmt.Errorf("%w: had %s, found %s", ErrIncarnation, p.Incarnation, c.Incarnation)
	case c.First > p.Seq+1:
		return p, fmt.Errorf("%w: Seq %d follows %d", ErrGap, c.First, p.Seq)
	case c.First <= p.Seq:
		return p, fmt.Errorf("%w: Seq %d again after %d", ErrFork, c.First, p.Seq)
	case c.Parent != p.Chain:
		return p, fmt.Errorf("%w: Seq %d names parent %s, not %s", ErrFork, c.First, c.Parent, p.Chain)
	case c.Term < p.Term:
		return p, fmt.Errorf("%w: Seq %d was written in term %d after term %d began", ErrFork, c.First, c.Term, p.Term)
	case c.Term > p.Term && !opensTerm(c):
		return p, fmt.Errorf("%w: Seq %d is of term %d, which nothing opened", ErrFork, c.First, c.Term)
	case p.Seq == 0 && !opensLog(c):
		return p, fmt.Errorf("%w: the log does not begin with the opening of %s", ErrFork, c.Incarnation)
	case c.Time < p.Time && p.Seq > 0:
		return p, fmt.Errorf("%w: Seq %d is dated %s, before %s", ErrFork, c.First, c.Time, p.Time)
	}
	next := Position{
		Incarnation: c.Incarnation,
		Seq:         c.Last(),
		Chain:       e.Chain,
		Term:        c.Term,
		Time:        c.Time,
		StreamSeq:   e.StreamSeq,
	}
	return next, nil
}

func opensTerm(c *Commit) bool {
	opened, ok := c.events[0].Fact.(*TermOpened)
	return ok && opened.Term == c.Term
}

func opensLog(c *Commit) bool {
	opened, ok := c.events[0].Fact.(*LogOpened)
	return ok && opened.Incarnation == c.Incarnation
}
