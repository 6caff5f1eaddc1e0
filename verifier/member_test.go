package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/events/slot"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/snapshot"
)

// onTmpfs gives a verifier's run a directory that could be production's.
func onTmpfs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "keyfleet-test-") //nolint:usetesting // t.TempDir is seldom on tmpfs
	if err != nil {
		t.Skipf("no tmpfs here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// stopped runs the world's verifier until it has caught up, and then ends it: with a goodbye, or as kill -9 would.
func (w *world) stopped(t *testing.T, killed bool) (as events.InstanceID) {
	t.Helper()
	t.Run("a run", func(t *testing.T) {
		w.TB = t
		w.run()
		w.caughtUp()
		w.v.ackNow()
		as = w.v.Status().Instance
		w.down.Store(killed)
	})
	w.TB = t
	w.down.Store(false)
	return as
}

func TestACleanStopSaysGoodbye(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	was := w.stopped(t, false)
	_, _, left := w.hub.Heard()
	require.Len(t, left, 1)
	require.Equal(t, was, left[0].Instance)
	w.open()
	require.NotEqual(t, was, w.v.Status().Instance, "who said goodbye is gone for good")
}

func TestARestartAfterAKillGoesOnAsTheSameInstance(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	k := w.key(w.deployment("echo"))
	was := w.stopped(t, true)
	w.clock.Advance(5 * time.Minute)
	w.down.Store(true) // and cut off from the registry
	w.run()
	require.Equal(t, was, w.v.Status().Instance)
	until[RenewalFailed](w)
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.clock.Advance(usable - 5*time.Minute)
	w.requireReason(projections.NotFresh, k.secret, "echo") // the lease counts from when it was asked for, in the run before

	until[LeaseLapsed](w)
	w.down.Store(false)
	until[CaughtUp](w)
	renewals, _, _ := w.hub.Heard()
	last := renewals[len(renewals)-1]
	require.Equal(t, was, last.Instance)
	require.Nil(t, last.Join, "it is a member already")
}

// What was acknowledged is never un-applied: an index that lost its end answers nothing until it is back there.
func TestARestartAnswersNothingBelowWhatWasAcknowledged(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	k := w.key(w.deployment("echo"))
	w.stopped(t, true)
	require.NoError(t, os.RemoveAll(filepath.Join(w.dir, "keyindex"))) // power, or a disk, took it
	source := &heldBack{Source: w.log}
	w.opts.Source = source
	w.open()
	require.EqualValues(t, w.last.Seq, w.v.gate.Load().floor)
	require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason)
	require.Equal(t, Starting, w.v.Status().State)
}

// In a site that is cut off nobody answers for snapshots, and the log at hand is all that a restart needs.
func TestARestartNearTheLogsEndAsksForNoSnapshot(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	k := w.key(w.deployment("echo"))
	w.stopped(t, true)
	require.NoError(t, os.RemoveAll(filepath.Join(w.dir, "keyindex"))) // kill -9 takes what was in memory alone
	w.opts.Snapshots = unanswered{}
	w.down.Store(true)
	w.run()
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
}

// unanswered is an object store that nobody answers for.
type unanswered struct{ snapshot.Source }

func (unanswered) List(ctx context.Context) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// heldBack is a log that nobody can read.
type heldBack struct{ projections.Source }

func (*heldBack) Follow(ctx context.Context, _ events.Position, _ func([]events.Entry) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestOnlyTheSameRunOfTheSameVerifierGoesOn(t *testing.T) {
	copied := func(t *testing.T, w *world) {
		from := filepath.Join(w.opts.RunDir, "instance")
		record, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.Rename(from, from+".old")) // so that its inode is not used again
		require.NoError(t, os.WriteFile(from, record, 0o600))
	}
	onDisk := func(t *testing.T, w *world) {
		disk := t.TempDir()
		require.NoError(t, os.Chmod(disk, 0o700))
		if place, err := placeOfDir(disk); err != nil || place.Boot != "" {
			t.Skip("the temporary directory is on tmpfs too")
		}
		record, err := os.ReadFile(filepath.Join(w.opts.RunDir, "instance"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(disk, "instance"), record, 0o600))
		w.opts.RunDir = disk
	}
	rebooted := func(t *testing.T, w *world) {
		f, data, err := slot.Open(filepath.Join(w.opts.RunDir, "instance"))
		require.NoError(t, err)
		require.NoError(t, f.Put([]byte(regexpBoot.ReplaceAllString(string(data), `"boot":"another"`))))
		require.NoError(t, f.Close())
	}
	for name, meanwhile := range map[string]func(*testing.T, *world){
		"copied":          copied,
		"on disk":         onDisk,
		"rebooted":        rebooted,
		"another mode":    func(_ *testing.T, w *world) { w.opts.ServeFor = time.Hour },
		"another name":    func(_ *testing.T, w *world) { w.opts.Name = "other" },
		"another version": func(_ *testing.T, w *world) { w.opts.Version = "2" },
		"no directory":    func(_ *testing.T, w *world) { w.opts.RunDir = "" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
			k := w.key(w.deployment("echo"))
			was := w.stopped(t, true)
			meanwhile(t, w)
			w.open()
			require.NotEqual(t, was, w.v.Status().Instance)
			require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason, "another instance has no grant")
		})
	}
}

// An upgrade is another instance, and nobody waits for the one before.
func TestTheInstanceBeforeAnotherIsTakenLeaveOf(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	was := w.stopped(t, true)
	w.opts.Version = "2"
	w.run()
	w.caughtUp()
	_, _, left := w.hub.Heard()
	require.NotEmpty(t, left)
	require.Equal(t, was, left[0].Instance)
}

func TestARunDirectoryOfOthersIsRefused(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	require.NoError(t, os.Chmod(w.opts.RunDir, 0o755))
	_, err := Open(w.dir, w.opts)
	require.ErrorContains(t, err, "open to other users")
	require.NoError(t, os.Chmod(w.opts.RunDir, 0o700))
	w.open()
	_, err = Open(t.TempDir(), w.opts)
	require.ErrorIs(t, err, slot.ErrHeld)
}

func TestAPromptCommitIsAcknowledgedAtOnce(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) }).run()
	w.caughtUp()
	w.v.change(func(*hold, time.Duration) { w.v.every = time.Hour })
	w.key() // nobody waits for it
	prompt := w.promptCommit()
	require.Eventually(t, func() bool {
		_, acks, _ := w.hub.Heard()
		return len(acks) > 0 && acks[len(acks)-1].Seq == prompt
	}, 20*time.Second, time.Millisecond)
	data, err := slotRecord(t, w)
	require.NoError(t, err)
	var found record
	require.NoError(t, json.Unmarshal(data, &found))
	require.Equal(t, prompt, found.Floor.Seq, "kept before it was acknowledged")
}

// What cannot be kept is not acknowledged: the next run might answer from before it.
func TestWhatCannotBeKeptIsNotAcknowledged(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) }).run()
	w.caughtUp()
	w.v.mu.Lock()
	w.v.session.rec.Place.Boot = strings.Repeat("x", slot.MaxRecord) // a disk that is full looks the same
	w.v.mu.Unlock()
	prompt := w.promptCommit()
	require.ErrorContains(t, until[RenewalFailed](w).Err, "must not forget")
	_, acks, _ := w.hub.Heard()
	for _, ack := range acks { // of what came before there may be one
		require.Less(t, ack.Seq, prompt)
	}
}

// keepsFirst is a registry that looks, before it answers, at what the next run would find.
type keepsFirst struct {
	uplink
	t *testing.T
}

func (k keepsFirst) kept() (found record) {
	data, err := slotRecord(k.t, k.world)
	require.NoError(k.t, err)
	require.NoError(k.t, json.Unmarshal(data, &found))
	return found
}

func (k keepsFirst) Renew(ctx context.Context, r head.Renewal) ([]byte, error) {
	if r.Join == nil {
		assert.GreaterOrEqual(k.t, k.kept().Floor.Seq, r.Seq, "a renewal acknowledges")
	}
	return k.uplink.Renew(ctx, r)
}

func (k keepsFirst) Goodbye(ctx context.Context, g head.Goodbye) error {
	assert.NotEqual(k.t, g.Instance, k.kept().Instance, "nobody goes on as who says goodbye")
	return k.uplink.Goodbye(ctx, g)
}

// A run that ends anywhere, by a kill, leaves no more behind than the registry may rely on.
func TestWhatIsToldIsKeptFirst(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	w.opts.Uplink = keepsFirst{uplink{w}, t}
	renewed := func(seq events.Seq) func() bool {
		return func() bool {
			asked, _, _ := w.hub.Heard()
			return len(asked) > 0 && asked[len(asked)-1].Seq >= seq
		}
	}
	t.Run("a run", func(t *testing.T) {
		w.TB = t
		w.run()
		w.caughtUp()
		w.v.change(func(*hold, time.Duration) { w.v.every = time.Hour }) // only renewals acknowledge
		for range 20 {
			w.key()
			require.Eventually(t, renewed(w.last.Seq), 20*time.Second, time.Millisecond)
		}
	})
	w.TB = t
	w.stopped(t, true)
	w.opts.Version = "2"
	w.stopped(t, false)
	_, _, left := w.hub.Heard()
	require.GreaterOrEqual(t, len(left), 3, "two that stopped, and one that was replaced")
}

func TestAQuarantineOutlastsTheRun(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	k := w.key(w.deployment("echo"))
	w.run()
	w.caughtUp()
	w.v.quarantine(events.ErrFork)
	renewals, _, _ := w.hub.Heard()
	require.Eventually(t, func() bool { // which it goes on sending, and nothing comes of it
		all, _, _ := w.hub.Heard()
		return len(all) > len(renewals)+2
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason)
	var found record
	data, err := slotRecord(t, w)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &found))
	require.Empty(t, found.Grant, "the next run has to ask for one")
}

func TestAStrangerBeginsAnew(t *testing.T) {
	w := newWorld(t)
	refuse := &refusing{uplink: uplink{w}}
	w.opts.Uplink = refuse
	w.run()
	w.caughtUp()
	was := w.v.Status().Instance
	refuse.with = ErrStranger
	refuse.once.Store(true)
	require.Equal(t, was, until[BegunAnew](w).Was)
	w.caughtUp()
	require.NotEqual(t, was, w.v.Status().Instance)
}

func TestTheReleasedServeNothing(t *testing.T) {
	w := newWorld(t)
	refuse := &refusing{uplink: uplink{w}, with: ErrReleased}
	w.opts.Uplink = refuse
	k := w.key(w.deployment("echo"))
	w.run()
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	refuse.once.Store(true)
	require.ErrorIs(t, until[IndexQuarantined](w).Err, ErrReleased)
	w.requireReason(projections.NotFresh, k.secret, "echo")
}

func TestGrantsOfOtherKeysAreNotBelieved(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.LogKeys = []events.PublicKey{{1}} }).run()
	require.ErrorIs(t, until[RenewalFailed](w).Err, head.ErrNotSigned)
	require.Equal(t, Starting, w.v.Status().State)
}

var errStored = errors.New("a record was changed behind the index's back")

// A damaged index answers nothing, and is begun anew only when the registry says so.
func TestADamagedIndexIsRebuiltByLeave(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	leave := &leaving{uplink: uplink{w}}
	w.opts.Uplink = leave
	k := w.key(w.deployment("echo"))
	w.run()
	w.caughtUp()
	was := w.v.Status().Instance
	w.v.diverge(errStored)
	require.ErrorIs(t, until[IndexQuarantined](w).Err, errStored)
	require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason)
	require.Eventually(t, func() bool {
		asked, _, _ := w.hub.Heard()
		return asked[len(asked)-1].WantsToRebuild
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, Quarantined, w.v.Status().State, "it waits for leave")
	leave.now.Store(true)
	until[IndexRebuilding](w)
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	require.Equal(t, was, w.v.Status().Instance)
	asked, _, _ := w.hub.Heard()
	require.Eventually(t, func() bool {
		asked, _, _ = w.hub.Heard()
		return !asked[len(asked)-1].WantsToRebuild
	}, 20*time.Second, time.Millisecond)
}

// A machine that somebody said is no more, and that was killed: its next run is another instance, and has nothing to answer by.
func TestAReleasedInstanceThatWasKilledBeginsAnother(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir = onTmpfs(t) })
	k := w.key(w.deployment("echo"))
	refuse := &refusing{uplink: uplink{w}, with: ErrReleased}
	w.opts.Uplink = refuse
	var was events.InstanceID
	t.Run("a run", func(t *testing.T) {
		w.TB = t
		w.run()
		w.caughtUp()
		w.v.ackNow()
		was = w.v.Status().Instance
		refuse.once.Store(true)
		require.ErrorIs(t, until[RenewalFailed](w).Err, ErrReleased)
		w.down.Store(true)
	})
	w.TB = t
	w.open()
	require.NotEqual(t, was, w.v.Status().Instance)
	require.Equal(t, projections.NotFresh, w.check(k.secret, "echo").Reason)
}

func TestWhatAnInstanceMustNotForgetIsShort(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RunDir, o.PoP = onTmpfs(t), strings.Repeat("<", 300) }).run()
	w.caughtUp()
	w.v.ackNow()
	record, err := slotRecord(t, w)
	require.NoError(t, err)
	require.NotEmpty(t, record)
	require.Less(t, len(record), slot.MaxRecord*2/3)
	w.v.change(func(*hold, time.Duration) {
		w.v.session.rec.Trust = &trust{Pinned: make([]events.PublicKey, MaxLogKeys), Keys: make([]events.PublicKey, 4)}
		require.NoError(t, w.v.session.put(), "as many keys as a log has and can be pinned have room, too")
	})
}

// Damage may be found before the log is followed.
func TestLeaveToRebuildMayComeBeforeAnythingIsFollowed(t *testing.T) {
	w := newWorld(t).open()
	w.v.diverge(errStored)
	require.NoError(t, w.v.rebuild())
	require.Equal(t, Starting, w.v.Status().State)
}
