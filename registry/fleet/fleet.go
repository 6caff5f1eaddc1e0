package fleet

import (
	"errors"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/projections"
)

// Term is what a registry knows as it becomes the active one. Times are since boot, on its own clock.
type Term struct {
	Number uint64
	Opened time.Duration  // when term_opened was known to be durable
	Before time.Duration  // for how long after that the registry before may still have granted: its self-lease
	Clock  events.Instant // the time, 0 where it is not known
}

// Fleet is one term's knowledge. It must be told of every durable commit, in order.
type Fleet struct {
	term    Term
	charter *projections.Charter
	longer  longer
	ends    ends
	root    [32]byte // of the tree that ends where the log does
	seats   map[events.InstanceID]*seat
	waits   map[events.Seq]*Wait
}

// longer is a lease that was shortened: grants of it may be in use until then.
type longer struct{ lease, until time.Duration }

// seat is what is known of one member. The zero seat is of one that this term has not heard of.
type seat struct {
	acked   events.Seq
	ackedAt time.Duration
	early   head.Ack // of what is not known to be durable here: a verifier may hear of a commit before its writer does

	heard   bool
	heardAt time.Duration
	said    head.Renewal // the last one
	granted time.Duration
	grants  int

	shown   head.Ticket   // the last that it showed,
	issued  []head.Ticket // and what it was given for that
	moved   bool          // it showed another one before that,
	before  head.Ticket
	movedAt time.Duration
	torn    bool // two machines are this instance
	forked  bool // it has another log than ours
	leaving bool // the log is about to say that it left

	rebuilding  bool          // it was given leave to begin a new index, and has not caught up since
	leaveAt     time.Duration // when it was given that
	barredUntil time.Duration // when it may be given it again
}

// Why no grant is given.
var (
	// ErrStranger: the instance is no member. It joins, or begins anew under another id.
	ErrStranger = errors.New("the instance is not a member of the fleet: it must join, under a new id")
	// ErrTorn: a ticket was shown twice. Both that hold it must begin anew.
	ErrTorn = errors.New("two machines are the same instance, one of them a copy: both must begin anew, under new ids")
	// ErrLate: a renewal came after a later one.
	ErrLate = errors.New("the renewal was overtaken by a later one")
	// ErrAhead: it has applied what is not durable here, or not yet.
	ErrAhead = errors.New("the instance has applied more than the log holds")
)

// Open begins a term, with what the charter says and where the log ends.
func Open(t Term, charter *projections.Charter, end head.Head, root [32]byte) *Fleet {
	f := &Fleet{term: t, charter: &projections.Charter{}, seats: map[events.InstanceID]*seat{}, waits: map[events.Seq]*Wait{}}
	f.linger(charter.Lease.Longest(t.Clock), t.Opened+t.Before)
	f.Durable(charter, end, root, t.Opened)
	return f
}

// Durable notes that the log is durable up to end, where its tree has the root, and says what the charter says.
func (f *Fleet) Durable(charter *projections.Charter, end head.Head, root [32]byte, now time.Duration) {
	f.ends.add(end, now)
	f.root = root
	f.countEarly(now)
	if charter.ChangedAt == f.charter.ChangedAt {
		return
	}
	if length := f.charter.Lease.Length; charter.Lease.Length != length {
		f.linger(length, now)
	}
	f.charter = charter
	for id := range charter.Members {
		if f.seats[id] == nil {
			f.seats[id] = &seat{}
		}
	}
	for id := range f.seats {
		if _, stays := charter.Members[id]; !stays {
			delete(f.seats, id)
			f.excuse(id)
		}
	}
}

// countEarly counts the acknowledgements that came before what they are of.
func (f *Fleet) countEarly(now time.Duration) {
	for _, s := range f.seats {
		if s.early.Seq > s.acked {
			f.Ack(s.early, now)
		}
	}
}

// Member gives a member of the fleet.
func (f *Fleet) Member(id events.InstanceID) (projections.Member, bool) {
	m, known := f.charter.Members[id]
	return m, known
}

// Passed notes a commit that the log had before the end that Durable is told of next.
func (f *Fleet) Passed(end head.Head, now time.Duration) { f.ends.add(end, now) }

// End is where the log is known to end.
func (f *Fleet) End() head.Head { return f.ends.newest() }

// Grant answers a renewal. It lacks only the attested time and the signature. ticket is a new one, drawn at random.
func (f *Fleet) Grant(r *head.Renewal, ticket head.Ticket, now time.Duration) (head.Grant, error) {
	s, member := f.seats[r.Instance]
	if !member || s.leaving {
		return head.Grant{}, ErrStranger
	}
	if f.Compare(r.Head) == Ahead {
		return head.Grant{}, ErrAhead
	}
	if s.isLate(r.Ticket, now) {
		return head.Grant{}, ErrLate
	}
	if s.torn = s.torn || !s.shows(r.Ticket); s.torn {
		return head.Grant{}, ErrTorn
	}
	f.Ack(r.Ack, now)
	s.heard, s.heardAt, s.said = true, now, *r
	s.issue(r.Ticket, ticket, now)
	s.granted = now
	s.grants++
	s.rebuilding = f.mayRebuild(r.Instance, s, now)
	m := f.charter.Members[r.Instance]
	return head.Grant{
		Head: f.End(), Root: f.root, Term: f.term.Number, Instance: r.Instance, Nonce: r.Nonce, Ticket: ticket,
		Lease: f.charter.Lease.Length, Mode: m.Mode, ServeBound: time.Duration(m.ServeBound) * time.Millisecond,
		AckEvery: f.ackEvery(), Rebuild: s.rebuilding && r.WantsToRebuild,
	}, nil
}

// shows reports whether the ticket can be that of the one machine which is this instance: the one that it showed last, if
// the answers since were lost, or one that it was given for that. Of those only one can be in use: the others went
// with their answers. In a new term the first one shown is believed.
func (s *seat) shows(t head.Ticket) bool {
	return s.grants == 0 || t == s.shown || slices.Contains(s.issued, t)
}

// lateAfter is for how long a renewal may be on its way, overtaken by later ones.
const lateAfter = 15 * time.Second

// isLate reports whether the renewal may be one that its sender gave up, before it showed another ticket. It changes nothing.
func (s *seat) isLate(t head.Ticket, now time.Duration) bool {
	return s.moved && t == s.before && !s.shows(t) && now-s.movedAt < lateAfter
}

func (s *seat) issue(shown, ticket head.Ticket, now time.Duration) {
	const most = 64 // answers lost one after another
	if s.grants > 0 && shown == s.shown {
		s.issued = append(s.issued[max(0, len(s.issued)-most+1):], ticket)
		return
	}
	s.moved, s.before, s.movedAt = s.grants > 0, s.shown, now
	s.shown, s.issued = shown, []head.Ticket{ticket}
}

// ackEvery keeps acknowledgements that nobody waits for below a thousand a second.
func (f *Fleet) ackEvery() time.Duration {
	const least, each = 100 * time.Millisecond, time.Millisecond
	return max(least, time.Duration(len(f.seats))*each)
}

// Ack counts an acknowledgement, if its chain is the log's.
func (f *Fleet) Ack(a head.Ack, now time.Duration) {
	s, member := f.seats[a.Instance]
	if !member || s.torn || a.Seq <= s.acked {
		return
	}
	switch f.Compare(a.Head) {
	case Same:
		s.acked, s.ackedAt, s.forked = a.Seq, now, false
		f.confirm(a.Instance, a.Seq, now)
	case Other:
		s.forked = true
	case Ahead:
		s.early = a
	case Older:
	}
}

// Leaves notes that the log is about to say that the instance left: it is granted nothing more. A grant that it already has
// is the business of whoever decides that.
func (f *Fleet) Leaves(id events.InstanceID) {
	if s := f.seats[id]; s != nil {
		s.leaving = true
	}
}

// Stays takes Leaves back: it was not written.
func (f *Fleet) Stays(id events.InstanceID) {
	if s := f.seats[id]; s != nil {
		s.leaving = false
	}
}

// MayLeave reports whether the goodbye comes from the machine that is the instance.
func (f *Fleet) MayLeave(g head.Goodbye) bool {
	s, member := f.seats[g.Instance]
	return member && !s.torn && s.shows(g.Ticket)
}

// Lapsed are the members whose grants cannot be in use any more, by any clock, for as long again as that took: the log may
// say that they left. A member that serves on past its lease never lapses.
func (f *Fleet) Lapsed(now time.Duration) (all []events.InstanceID) {
	for id, s := range f.seats {
		last := max(s.granted, f.term.Opened+f.term.Before)
		if f.charter.Members[id].Mode == events.ModeDeny && !s.leaving && now >= last+2*f.fence(now) {
			all = append(all, id)
		}
	}
	return all
}

// linger notes that a lease was granted until now. While an earlier, longer one may be in use, both are taken for the longer.
func (f *Fleet) linger(lease, now time.Duration) {
	over := longer{lease, now + projections.Fence(lease)}
	if now < f.longer.until {
		over = longer{max(lease, f.longer.lease), max(over.until, f.longer.until)}
	}
	f.longer = over
}

// fence is how long after it was given any grant that is in use may be.
func (f *Fleet) fence(now time.Duration) time.Duration {
	lease := f.charter.Lease.Length
	if now < f.longer.until {
		lease = max(lease, f.longer.lease)
	}
	return projections.Fence(lease)
}
