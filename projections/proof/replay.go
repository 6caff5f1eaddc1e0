package proof

import (
	"errors"
	"fmt"
	"slices"

	"github.com/keyfleet/keyfleet/events"
)

// Fault says where a copy of the log stops being the log that was signed.
type Fault struct {
	// Seq is the first event that cannot be believed: that of the commit that was changed, or of what is missing there. It is exact for
	// any one commit that was changed, repeated, moved, put in or taken out, while what lies behind it, or a checkpoint, can be believed;
	// one that was made shorter looks like one behind it that is missing. Who rewrites everything from some Seq on, so that it fits
	// together, is found out by the next checkpoint all the same; Seq is then that of the commit before it, and only what Proven covers
	// is sure.
	Seq    events.Seq
	Proven events.Seq // up to here a signed checkpoint vouches for the log
	Cause  error
}

func (f *Fault) Error() string {
	return fmt.Sprintf("the log is not to be believed from Seq %d on: %v", f.Seq, f.Cause)
}
func (f *Fault) Unwrap() error { return f.Cause }

// Why a copy of the log is not the log, beside the reasons of package events.
var (
	// ErrChanged: a commit is not the one that its successor or a checkpoint speaks of.
	ErrChanged = errors.New("the commit here is not the one that was written")
	// ErrTruncated: the log ends before a checkpoint of it.
	ErrTruncated = errors.New("the log ends here, and a signed checkpoint says that it went on")
)

// Options say what a Replay holds a log against.
type Options struct {
	// Keys are the log's keys as the auditor knows them. Without any, those are believed that the log itself names, so that a
	// log that somebody made up whole proves itself.
	Keys []events.PublicKey
	// Pins are signed checkpoints that were kept from earlier.
	Pins [][]byte
}

// Replay holds a copy of the log, commit by commit, against itself and against checkpoints: every Seq, chain hash, time and term,
// the tree's root, and signatures. Its memory does not grow with the log.
type Replay struct {
	trusted  []events.PublicKey
	own      []events.PublicKey // that the log names, up to here
	pins     []pin              // not reached yet, in order
	at       events.Position
	tree     Frontier
	first    events.Seq // of the last commit taken in, for which nothing vouches before its successor does
	commits  uint64
	signed   Checkpoint // the last that vouches for what was read
	signedBy events.PublicKey
	doubt    *doubt
}

type pin struct {
	Checkpoint
	note []byte
}

// doubt is a contradiction between two commits. Which of them was changed is for the one behind them to say.
type doubt struct {
	chain     events.ChainHash // of the later one
	ifVouched events.Seq       // what is wrong if the next commit names the later one as its parent
	otherwise events.Seq
	cause     error
}

// NewReplay begins before the beginning. Errors are about the pins.
func NewReplay(opts Options) (*Replay, error) {
	r := &Replay{trusted: opts.Keys}
	for _, signed := range opts.Pins {
		c, err := PeekCheckpoint(signed)
		if err != nil {
			return nil, err
		}
		r.pins = append(r.pins, pin{c, signed})
	}
	slices.SortFunc(r.pins, func(a, b pin) int { return int(min(max(int64(a.Seq)-int64(b.Seq), -1), 1)) })
	return r, nil
}

// Position is behind the last commit taken in.
func (r *Replay) Position() events.Position { return r.at }

// Verified is what a Replay has found to be so.
type Verified struct {
	Checkpoint                    // of all that was read
	Commits    uint64             `json:"commits"`
	Signed     events.Seq         `json:"signed"` // up to here a signed checkpoint vouches for it; 0: nobody
	SignedBy   *events.PublicKey  `json:"signed_by,omitempty"`
	Trusted    bool               `json:"trusted"` // the auditor knew the key: otherwise it is the log's own word
	LogKeys    []events.PublicKey `json:"log_keys"`
}

// End says that the copy ends here.
func (r *Replay) End() (Verified, error) {
	switch {
	case r.doubt != nil && len(r.pins) > 0: // it speaks of the last commit, if that is the log's
		return Verified{}, r.decide(r.pins[0].Chain)
	case r.doubt != nil:
		return Verified{}, r.fault(r.doubt.earliest(), r.doubt.cause)
	case len(r.pins) > 0 && r.at.Seq > 0 && r.pins[0].Incarnation != r.at.Incarnation:
		return Verified{}, r.fault(1, otherLog(r.at.Incarnation, r.pins[0].Incarnation))
	case len(r.pins) > 0:
		return Verified{}, r.fault(r.at.Seq+1, fmt.Errorf("%w, to Seq %d", ErrTruncated, r.pins[0].Seq))
	case r.at.Seq == 0:
		return Verified{}, r.fault(1, errors.New("it holds nothing"))
	}
	v := Verified{
		Checkpoint: CheckpointAt(r.at, r.tree.Root()), Commits: r.commits,
		Signed: r.signed.Seq, LogKeys: r.own,
	}
	if r.signed.Seq > 0 {
		v.SignedBy, v.Trusted = &r.signedBy, len(r.trusted) > 0
	}
	return v, nil
}

func (d *doubt) earliest() events.Seq { return min(d.ifVouched, d.otherwise) }

func (r *Replay) fault(seq events.Seq, cause error) *Fault {
	return &Fault{Seq: seq, Proven: r.signed.Seq, Cause: cause}
}

// commit takes the next one in.
func (r *Replay) commit(p *prepared) error {
	if r.doubt != nil {
		return r.resolve(p)
	}
	if p.err != nil {
		return r.fault(r.at.Seq+1, p.err)
	}
	next, err := r.at.Next(p.entry)
	if err != nil {
		return r.misfit(p, err)
	}
	if err := r.readKeys(p.entry.Commit); err != nil {
		return err
	}
	r.at, r.first = next, p.entry.Commit.First
	r.commits++
	for _, leaf := range p.leaves {
		r.tree.add(leaf, func(int, Root) {})
	}
	for len(r.pins) > 0 && r.pins[0].Seq <= r.at.Seq {
		if err := r.reach(r.pins[0]); err != nil {
			return err
		}
		r.pins = r.pins[1:]
	}
	return nil
}

// misfit says what is wrong where a commit does not follow the one before it, or that the next commit has to say.
func (r *Replay) misfit(p *prepared, cause error) error {
	c, here := p.entry.Commit, r.at.Seq+1
	before := r.at.Chain
	switch {
	case r.at.Seq == 0 || p.entry.Chain == before || c.Parent == before:
		return r.fault(here, cause) // it belongs elsewhere, stood here already, or vouches for the one before it
	case c.Incarnation != r.at.Incarnation && r.commits > 1:
		return r.fault(here, cause)
	case c.Incarnation != r.at.Incarnation: // one of two is another log's
		r.doubt = &doubt{p.entry.Chain, r.first, here, cause}
	case c.First == here:
		r.doubt = &doubt{p.entry.Chain, r.first, here, fmt.Errorf("%w (%w)", ErrChanged, cause)}
	case c.First >= r.first && c.First < here: // two commits claim the same place
		r.doubt = &doubt{p.entry.Chain, r.first, here, cause}
	default:
		return r.fault(here, cause)
	}
	if len(r.pins) > 0 && r.pins[0].Seq == c.Last() {
		return r.decide(r.pins[0].Chain)
	}
	return nil
}

// resolve decides a doubt. What cannot be read vouches for nobody.
func (r *Replay) resolve(p *prepared) error {
	d := r.doubt
	if p.err != nil {
		return r.fault(d.earliest(), d.cause)
	}
	return r.decide(p.entry.Commit.Parent)
}

func (r *Replay) decide(parent events.ChainHash) error {
	d := r.doubt
	if parent == d.chain {
		return r.fault(d.ifVouched, d.cause)
	}
	return r.fault(d.otherwise, d.cause)
}

// readKeys keeps account of the keys that the log names as its own.
func (r *Replay) readKeys(c *events.Commit) error {
	for i := range c.Events() {
		switch f := c.Events()[i].Fact.(type) {
		case *events.LogOpened:
			if c.First+events.Seq(i) != 1 {
				return r.fault(c.First, fmt.Errorf("%w: a log is opened once", events.ErrFork))
			}
			r.own = append(r.own, f.SigningKey)
		case *events.SigningKeyAdded:
			r.own = append(r.own, f.SigningKey)
		case *events.SigningKeyRetired:
			r.own = slices.DeleteFunc(r.own, func(k events.PublicKey) bool { return k == f.SigningKey })
		}
	}
	return nil
}

// reach holds what was read against a checkpoint that it has come to.
func (r *Replay) reach(p pin) error {
	keys := r.trusted
	if len(keys) == 0 {
		keys = r.own
	}
	c, by, err := OpenCheckpoint(p.note, keys...)
	switch {
	case err != nil:
		return r.fault(r.at.Seq, err)
	case c.Incarnation != r.at.Incarnation:
		return r.fault(1, otherLog(r.at.Incarnation, c.Incarnation))
	case c.Seq != r.at.Seq:
		return r.fault(r.first, fmt.Errorf("%w: the checkpoint of Seq %d ends inside it", ErrChanged, c.Seq))
	case c != CheckpointAt(r.at, r.tree.Root()):
		return r.fault(r.first, fmt.Errorf("%w: the checkpoint of Seq %d speaks of another", ErrChanged, c.Seq))
	}
	r.signed, r.signedBy = c, by
	return nil
}

func otherLog(found, signed events.Incarnation) error {
	return fmt.Errorf("%w: it is %s, and the checkpoint is of %s", events.ErrIncarnation, found, signed)
}

// checkpoint takes one in that the copy itself carries at this place.
func (r *Replay) checkpoint(signed []byte) error {
	c, err := PeekCheckpoint(signed)
	switch {
	case err != nil:
		return r.fault(r.at.Seq+1, err)
	case r.doubt != nil:
		return r.decide(c.Chain)
	case c.Seq > r.at.Seq:
		return r.fault(r.at.Seq+1, fmt.Errorf("%w, to Seq %d", ErrTruncated, c.Seq))
	case c.Seq < r.at.Seq:
		return r.fault(c.Seq+1, fmt.Errorf("the checkpoint behind Seq %d is an older one, of Seq %d: nothing vouches for what lies between", r.at.Seq, c.Seq))
	}
	return r.reach(pin{c, signed})
}
