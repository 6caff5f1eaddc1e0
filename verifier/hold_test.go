package verifier

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
)

const (
	leaseOf10 = 10 * time.Minute
	usable    = 594 * time.Second // of it: verifiers stop at 0.99 L
)

var (
	inc  = events.Incarnation{1}
	self = events.InstanceID{3}
)

// headAt is the head of the one log of these tests, where each commit has one event.
func headAt(seq events.Seq) head.Head {
	return head.Head{Incarnation: inc, Seq: seq, Chain: events.ChainHash{byte(seq), byte(seq >> 8), byte(seq >> 16)}}
}

// dialogue drives a hold as a verifier would.
type dialogue struct {
	*testing.T
	*hold
	now  time.Duration
	next byte
}

// at begins behind an applied Seq.
func at(t *testing.T, seq events.Seq) *dialogue {
	floor := headAt(seq)
	p := events.Position{Incarnation: inc, Seq: seq, Chain: floor.Chain, Term: 5}
	if seq == 0 {
		p, floor = events.Position{}, head.Head{}
	}
	return &dialogue{T: t, hold: newHold(p, floor, self), now: time.Hour}
}

func (d *dialogue) after(by time.Duration) *dialogue { d.now += by; return d }

func (d *dialogue) asks() head.Nonce {
	d.next++
	d.ask(head.Nonce{d.next}, d.now)
	return head.Nonce{d.next}
}

func (d *dialogue) granted(n head.Nonce, h head.Head) error {
	return d.hears(head.Grant{Nonce: n, Head: h, Term: 5, Lease: leaseOf10})
}

func (d *dialogue) hears(g head.Grant) error {
	if g.Instance.IsZero() {
		g.Instance = self
	}
	return d.grant(g, nil, d.now)
}

func (d *dialogue) renews(h head.Head) *dialogue {
	d.Helper()
	require.NoError(d, d.granted(d.asks(), h))
	return d
}

func (d *dialogue) applies(seqs ...events.Seq) *dialogue {
	d.Helper()
	for _, seq := range seqs {
		require.NoError(d, d.applied(headAt(seq), 1))
	}
	return d
}

// applied applies a commit of so many events that ends in h.
func (d *dialogue) applied(h head.Head, size int) error {
	c := &events.Commit{Schema: 1, Incarnation: h.Incarnation, Term: 5, First: h.Seq + 1 - events.Seq(size)}
	for range size {
		require.NoError(d, c.Add(events.Event{Fact: &events.Edited{}}))
	}
	return d.apply(events.Entry{Commit: c, Chain: h.Chain})
}

func (d *dialogue) is(want State) *dialogue {
	d.Helper()
	require.Equal(d, want, d.gate.state(d.now))
	require.Equal(d, want == Serving || want == Stalled, d.gate.open(d.now), "the gate")
	return d
}

func TestNothingIsAnsweredWithoutAGrant(t *testing.T) {
	at(t, 7).is(Starting).after(time.Hour).applies(8).is(Starting)
	require.False(t, (&gate{}).open(0), "the zero gate is closed")
}

func TestGrantCountsFromWhenItWasAskedFor(t *testing.T) {
	d := at(t, 7)
	n := d.asks()
	require.NoError(t, d.after(5*time.Minute).granted(n, headAt(7)))
	d.is(Serving)
	require.Equal(t, 5*time.Minute, d.gate.staleness(d.now))
	d.after(usable - 5*time.Minute - 1).is(Serving).after(1).is(Lapsed)
}

func TestGrantThatComesWhenItIsOverIsRefused(t *testing.T) {
	d := at(t, 7)
	n := d.asks()
	require.ErrorIs(t, d.after(usable).granted(n, headAt(7)), errGrant)
	d.is(Starting)
}

func TestGrantAnswersOneQuestionOnce(t *testing.T) {
	d := at(t, 7)
	require.ErrorIs(t, d.granted(head.Nonce{99}, headAt(7)), errGrant)
	d.is(Starting)
	n := d.asks()
	require.NoError(t, d.granted(n, headAt(7)))
	require.ErrorIs(t, d.after(time.Minute).granted(n, headAt(7)), errGrant)
	forgotten := d.asks()
	for range maxAsked {
		d.asks()
	}
	require.ErrorIs(t, d.granted(forgotten, headAt(7)), errGrant)
}

func TestGrantOfAnOldTermIsRefused(t *testing.T) {
	d := at(t, 7)
	require.ErrorIs(t, d.hears(head.Grant{Nonce: d.asks(), Head: headAt(7), Term: 4, Lease: leaseOf10}), errGrant)
	d.is(Starting)
}

func TestRenewingWithoutApplyingExtendsNothing(t *testing.T) {
	d := at(t, 7).renews(headAt(9)).is(Starting).applies(8).is(Starting).applies(9).is(Serving)
	for range 20 {
		d.after(time.Minute).renews(headAt(12))
	}
	d.is(Lapsed).applies(10, 11).is(Lapsed).applies(12).is(Serving)
}

func TestSteadyWritesStarveNobody(t *testing.T) {
	d := at(t, 0)
	for seq := events.Seq(1); seq < 1000; seq++ { // always 200 behind, as far as that goes
		d.after(time.Second).renews(headAt(seq + 200)).applies(seq)
		require.LessOrEqual(t, len(d.pending), maxPending)
		if seq > 202 {
			d.is(Serving)
		}
	}
}

func TestPendingGrantsThatLapsedAreForgotten(t *testing.T) {
	d := at(t, 7).renews(headAt(9)).renews(headAt(10)).after(usable).renews(headAt(11))
	require.Len(t, d.pending, 1)
	d.applies(8, 9, 10).is(Starting).applies(11).is(Serving)
}

func TestAShorterLeaseTakesNothingAway(t *testing.T) {
	d := at(t, 7).renews(headAt(7)).after(time.Second)
	require.NoError(t, d.hears(head.Grant{Nonce: d.asks(), Head: headAt(7), Term: 5, Lease: time.Second}))
	d.after(time.Minute).is(Serving)
}

func TestNothingIsAnsweredBelowTheFloor(t *testing.T) {
	d := at(t, 7)
	d.hold = newHold(events.Position{Incarnation: inc, Seq: 7, Chain: headAt(7).Chain}, headAt(9), self)
	d.renews(headAt(7)).is(Starting).applies(8).is(Starting).applies(9).is(Serving)
	require.EqualValues(t, 12, d.applies(10, 11, 12).gate.floor, "it rises with what was applied")
}

// An index that lost its end and then follows another log does not become good by reaching the floor's Seq.
func TestTheFloorIsOfOneHistory(t *testing.T) {
	acked := headAt(9)
	acked.Chain = events.ChainHash{66}
	begin := func(seq events.Seq) *dialogue {
		d := at(t, seq)
		d.hold = newHold(events.Position{Incarnation: inc, Seq: seq, Chain: headAt(seq).Chain}, acked, self)
		return d
	}
	d := begin(7).renews(headAt(7)).is(Starting).applies(8).is(Starting)
	require.ErrorIs(t, d.applied(headAt(9), 1), events.ErrFork)
	d.is(Quarantined)
	begin(9).is(Quarantined)
	require.Equal(t, acked, begin(8).highest(), "a new index is held to it too")
	require.Equal(t, headAt(10), at(t, 9).applies(10).highest())
}

func TestANewIndexForgetsNoTime(t *testing.T) {
	d := at(t, 7)
	noon := events.InstantOf(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC))
	require.NoError(t, d.hears(head.Grant{Nonce: d.asks(), Head: headAt(7), Term: 5, Lease: leaseOf10, Attested: noon}))
	d.beginBehind(events.Position{}, d.highest(), self)
	require.Equal(t, noon, d.is(Starting).gate.instant(time.Time{}, d.now))
}

func TestAnotherHistoryIsQuarantinedAtOnce(t *testing.T) {
	forged := head.Head{Incarnation: inc, Seq: 8, Chain: events.ChainHash{66}}
	foreign := head.Head{Incarnation: events.Incarnation{2}, Seq: 8, Chain: headAt(8).Chain}
	for name, test := range map[string]struct {
		want error
		meet func(d *dialogue) error
	}{
		"head behind us":     {events.ErrFork, func(d *dialogue) error { return d.granted(d.applies(8, 9).asks(), forged) }},
		"head where we are":  {events.ErrFork, func(d *dialogue) error { return d.granted(d.applies(8).asks(), forged) }},
		"head before us":     {events.ErrFork, func(d *dialogue) error { return d.renews(forged).applied(headAt(8), 1) }},
		"head in a commit":   {events.ErrFork, func(d *dialogue) error { return d.renews(headAt(8)).applied(headAt(9), 2) }},
		"head in a past one": {events.ErrFork, func(d *dialogue) error { return errors.Join(d.applied(headAt(9), 2), d.granted(d.asks(), headAt(8))) }},
		"another log":        {events.ErrIncarnation, func(d *dialogue) error { return d.granted(d.asks(), foreign) }},
	} {
		t.Run(name, func(t *testing.T) {
			d := at(t, 7).renews(headAt(7)).is(Serving)
			require.ErrorIs(t, test.meet(d), test.want)
			d.is(Quarantined)
			_ = d.granted(d.asks(), headAt(d.gate.applied))
			d.is(Quarantined)
			require.ErrorIs(t, d.applied(headAt(10), 1), test.want)
		})
	}
}

func TestAnotherLogIsFoundOutByTheFirstCommit(t *testing.T) {
	d := at(t, 0).renews(head.Head{Incarnation: events.Incarnation{2}, Seq: 1})
	require.ErrorIs(t, d.applied(headAt(1), 1), events.ErrIncarnation)
	d.is(Quarantined)
}

func TestHeadTooOldToCompareProvesNothing(t *testing.T) {
	d := at(t, 7)
	require.ErrorIs(t, d.granted(d.asks(), headAt(6)), errGrant)
	d.is(Starting)
	for seq := events.Seq(8); seq <= 7+maxRecent; seq++ {
		d.applies(seq)
	}
	require.ErrorIs(t, d.granted(d.asks(), headAt(7)), errGrant)
	d.is(Starting).renews(headAt(8)).is(Serving).renews(headAt(5000)).renews(headAt(7 + maxRecent))
	require.ErrorIs(t, d.granted(d.asks(), head.Head{}), errGrant)
}

func TestStallAnswersUntilTheLeaseEnds(t *testing.T) {
	full := errors.New("disk full")
	d := at(t, 7).renews(headAt(7)).after(time.Second)
	n := d.asks()
	d.after(time.Second)
	d.stall(full, d.now)
	d.is(Stalled)
	require.NoError(t, d.granted(n, headAt(7)))
	d.is(Stalled) // it was asked for before the stall, and says nothing of after
	d.after(time.Second).renews(headAt(8)).is(Stalled)
	d.after(usable).is(Lapsed)

	d = at(t, 7).renews(headAt(7))
	d.stall(full, d.now)
	d.is(Stalled).after(time.Second).renews(headAt(7)).is(Serving)
	d.stall(full, d.now)
	d.is(Stalled).applies(8).is(Serving)
}

func TestServingOnIsMarkedStaleAndEnds(t *testing.T) {
	d := at(t, 7)
	d.gate.serve = 1000 * time.Hour
	require.False(t, d.gate.open(d.now), "never before it has caught up")
	serving := head.Grant{Nonce: d.asks(), Head: headAt(7), Term: 5, Lease: leaseOf10, Mode: events.ModeServe, ServeBound: time.Hour}
	require.NoError(t, d.hears(serving))
	d.is(Serving)
	require.False(t, d.gate.stale(d.now))
	d.after(usable)
	require.True(t, d.gate.open(d.now))
	require.True(t, d.gate.stale(d.now))
	require.Equal(t, Lapsed, d.gate.state(d.now))
	d.quarantine(events.ErrFork)
	require.False(t, d.gate.open(d.now))
	d.gate.quarantined = nil
	require.False(t, d.gate.open(d.now+time.Hour))
	d.gate.serve = 1<<63 - 1
	require.True(t, d.gate.open(d.now+100*time.Hour))
}

func TestClockNeverRunsBehindTheAttestedTime(t *testing.T) {
	d := at(t, 7)
	noon := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	attest := func(at time.Time) {
		require.NoError(t, d.hears(head.Grant{
			Nonce: d.asks(), Head: headAt(7), Term: 5, Lease: leaseOf10, Attested: events.InstantOf(at),
		}))
	}
	instant := func(wall time.Time) time.Time { return d.gate.instant(wall, d.now).Time() }
	require.Equal(t, noon, instant(noon))
	attest(noon)
	d.after(time.Minute)
	require.Equal(t, noon.Add(time.Minute), instant(noon.Add(-time.Hour)), "set back")
	require.Equal(t, noon.Add(time.Hour), instant(noon.Add(time.Hour)), "ahead")
	attest(noon)
	require.Equal(t, noon.Add(time.Minute), instant(noon), "an older time takes nothing back")
}

func TestAGrantIsForOneInstance(t *testing.T) {
	d := at(t, 7)
	require.ErrorIs(t, d.hears(head.Grant{Nonce: d.asks(), Head: headAt(7), Term: 5, Lease: leaseOf10, Instance: events.InstanceID{4}}), errGrant)
	d.is(Starting).renews(headAt(7)).is(Serving).renews(headAt(9))
	d.beginAnew(events.InstanceID{4})
	d.is(Starting).applies(8, 9).is(Starting)
	require.ErrorIs(t, d.granted(d.asks(), headAt(9)), errGrant)
	require.NoError(t, d.hears(head.Grant{Nonce: d.asks(), Head: headAt(9), Term: 5, Lease: leaseOf10, Instance: events.InstanceID{4}}))
	d.is(Serving)
}

func TestAResumedGrantCountsFromWhenItWasAskedFor(t *testing.T) {
	g := head.Grant{Head: headAt(9), Term: 5, Lease: leaseOf10, Instance: self}
	d := at(t, 7)
	asked := d.now
	d.after(time.Minute)
	require.NoError(t, d.resume(g, nil, asked, d.now))
	d.is(Starting).applies(8, 9).is(Serving).after(usable - time.Minute).is(Lapsed)
	require.ErrorIs(t, at(t, 9).resume(g, nil, asked, asked+usable), errGrant)
	ahead := at(t, 12)
	require.NoError(t, ahead.resume(g, nil, asked, ahead.now))
	ahead.is(Serving)
	forked := at(t, 9)
	g.Chain = events.ChainHash{66}
	require.ErrorIs(t, forked.resume(g, nil, asked, forked.now), events.ErrFork)
	forked.is(Quarantined)
}
