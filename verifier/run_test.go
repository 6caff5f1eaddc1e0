package verifier

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier/verifiertest"
)

func TestNothingIsAnsweredBeforeItHasCaughtUp(t *testing.T) {
	w := newWorld(t)
	k := w.key(w.deployment("echo"))
	w.down.Store(true)
	w.run()
	until[RenewalFailed](w)
	for _, presented := range [][]byte{nil, []byte("noise"), newKey().secret, k.secret} {
		a := w.check(presented, "echo")
		require.Equal(t, projections.NotFresh, a.Reason)
		require.Zero(t, a.Key)
	}
	require.Equal(t, Starting, w.v.Status().State)
	w.down.Store(false)
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
}

func TestRestartIsProvenFreshAgain(t *testing.T) {
	w := newWorld(t)
	k := w.key(w.deployment("echo"))
	t.Run("first", func(t *testing.T) {
		w.TB = t
		w.run()
		w.caughtUp()
	})
	w.TB = t
	w.tell(k.id, &events.Deleted{}) // while it is down
	w.open()
	require.Positive(t, w.v.Status().Position.Seq, "the index was kept")
	require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason)
}

func TestLapsedLeaseRefusesEverything(t *testing.T) {
	w := newWorld(t).run()
	k := w.key(w.deployment("echo"))
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.down.Store(true)
	until[RenewalFailed](w)
	w.clock.Advance(usable - time.Millisecond)
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.clock.Advance(time.Millisecond)
	w.requireReason(projections.NotFresh, k.secret, "echo")
	w.requireReason(projections.NotFresh, nil, "echo")
	until[LeaseLapsed](w)
	require.Equal(t, Lapsed, w.v.Status().State)
	w.down.Store(false)
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
}

func TestUnknownEventStallsAndThenLapses(t *testing.T) {
	w := newWorld(t).run()
	k := w.key(w.deployment("echo"))
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.tell(newID(), &events.Disabled{}, &events.Enabled{}) // of a key that does not exist
	require.ErrorIs(t, until[ApplyStalled](w).Err, projections.ErrMisfit)
	a := w.v.Check(t.Context(), Request{Project: "demo", Deployment: "echo", Key: k.secret})
	require.True(t, a.Allowed(), "the last good state answers")
	require.Equal(t, Stalled, w.v.Status().State)
	w.clock.Advance(usable)
	until[LeaseLapsed](w) // renewals went on, of a head that is never reached
	a = w.v.Check(t.Context(), Request{Project: "demo", Deployment: "echo", Key: k.secret})
	require.Equal(t, projections.NotFresh, a.Reason)
}

func TestForkQuarantinesAndRunGoesOn(t *testing.T) {
	w := newWorld(t).run()
	k := w.key(w.deployment("echo"))
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	forged := eventlogtest.NewCommit(t, w.last, 1)
	forged.Parent = events.ChainHash{66}
	body, err := forged.Encode()
	require.NoError(t, err)
	w.log.Publish(body)
	require.ErrorIs(t, until[IndexQuarantined](w).Err, events.ErrFork)
	a := w.v.Check(t.Context(), Request{Project: "demo", Deployment: "echo", Key: k.secret})
	require.Equal(t, projections.NotFresh, a.Reason)
	s := w.v.Status()
	require.Equal(t, Quarantined, s.State)
	require.False(t, s.Ready)
	require.Contains(t, s.Why, "fork")
}

func TestServeModeAnswersOnAndSaysSo(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.ServeFor = time.Hour }).run()
	k := w.key(w.deployment("echo"))
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.down.Store(true)
	until[RenewalFailed](w)
	w.clock.Advance(leaseOf10)
	a := w.check(k.secret, "echo")
	require.True(t, a.Allowed())
	require.True(t, a.Stale)
	require.GreaterOrEqual(t, a.Staleness, leaseOf10)
	w.clock.Advance(time.Hour)
	w.requireReason(projections.NotFresh, k.secret, "echo")
}

func TestClosedVerifierAnswersNothing(t *testing.T) {
	w := newWorld(t)
	k := w.key(w.deployment("echo"))
	t.Run("run", func(t *testing.T) {
		w.TB = t
		w.run()
		w.caughtUp()
	})
	w.TB = t
	require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason)
	for len(w.happen) > 0 {
		_, told := (<-w.happen).(IndexQuarantined)
		require.False(t, told, "closing is no news")
	}
}

func TestRunNeedsALogAndAnUplink(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Uplink = nil }).open()
	require.ErrorContains(t, w.v.Run(t.Context()), "without a Source, an Uplink")
}

// otherHistory is a registry's log that says something else in its last commit than the one that the verifier was shown.
type otherHistory struct{ *eventlogtest.Memory }

func (o otherHistory) Last(ctx context.Context) (events.Entry, error) {
	e, err := o.Memory.Last(ctx)
	e.Chain[0]++
	return e, err
}

func TestAForkedLogIsFoundOutByTheFirstHead(t *testing.T) {
	w := newWorld(t)
	w.hub = verifiertest.New(otherHistory{w.log})
	w.opts.LogKeys = w.hub.Keys()
	k := w.key(w.deployment("echo"))
	w.run()
	require.ErrorIs(t, until[IndexQuarantined](w).Err, events.ErrFork)
	require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason)
}

// falteringLog brings nothing, and no error either, until it is asked again.
type falteringLog struct {
	projections.Source
	asked atomic.Int64
}

func (l *falteringLog) Follow(ctx context.Context, from events.Position, deliver func([]events.Entry) error) error {
	if l.asked.Add(1) == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	return l.Source.Follow(ctx, from, deliver)
}

func TestALogThatFallsSilentIsReadAgain(t *testing.T) {
	w := newWorld(t)
	k := w.key(w.deployment("echo"))
	faltering := &falteringLog{Source: w.log}
	w.opts.Source = faltering
	w.run()
	renewals := func() int {
		asked, _, _ := w.hub.Heard()
		return len(asked)
	}
	require.Eventually(t, func() bool { return renewals() > 3 }, 20*time.Second, time.Millisecond)
	require.EqualValues(t, 1, faltering.asked.Load(), "it may be on its way")
	w.clock.Advance(longSilence)
	require.ErrorIs(t, until[ApplyStalled](w).Err, errSilent)
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
}
