package history_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/history"
)

// modelKey is a key as a reader of the design would keep it, without any of the code under test.
type modelKey struct {
	name, description string
	rev               uint64
	opens             []events.DeploymentID // as attached, in any order
	expires           events.Instant
	disabled, expired bool
}

// world makes a log up, and remembers what was so behind each event.
type world struct {
	t           testing.TB
	random      *rand.Rand
	keys        map[events.KeyID]modelKey
	deployments map[events.DeploymentID]string
	commits     []*events.Commit
	behind      []map[events.KeyID]modelKey // event Seq n is at n
	registered  []map[events.DeploymentID]string
	times       []events.Instant
}

func newWorld(t testing.TB, seed uint64, commits int) *world {
	t.Helper()
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 7)),
		keys: map[events.KeyID]modelKey{}, deployments: map[events.DeploymentID]string{},
	}
	w.remember(0)
	at := events.Instant(1_790_000_000_000)
	for range commits {
		c := &events.Commit{Schema: 1, First: events.Seq(len(w.behind)), Time: at}
		for range 1 + w.random.IntN(3) {
			require.NoError(t, c.Add(w.act()))
			w.remember(at)
		}
		w.commits = append(w.commits, c)
		at += events.Instant(w.random.IntN(3)) * 500 // some commits share an instant
	}
	return w
}

func (w *world) remember(at events.Instant) {
	w.behind = append(w.behind, maps.Clone(w.keys))
	w.registered = append(w.registered, maps.Clone(w.deployments))
	w.times = append(w.times, at)
}

// act does something that is possible, and gives its event.
func (w *world) act() events.Event {
	if len(w.deployments) < 2 || w.random.IntN(12) == 0 {
		return w.register()
	}
	if len(w.deployments) > 4 {
		id := pick(w.random, w.deployments)
		delete(w.deployments, id)
		return events.Event{Project: "demo", Subject: id, Rev: 2, Fact: &events.DeploymentRemoved{}, Admin: events.Admin{Actor: "ada"}.Plain()}
	}
	if len(w.keys) < 3 || w.random.IntN(6) == 0 {
		return w.create()
	}
	return w.change(pick(w.random, w.keys))
}

// pick takes the same one for the same seed: maps have no order of their own.
func pick[K ~[16]byte, V any](random *rand.Rand, m map[K]V) K {
	ids := slices.SortedFunc(maps.Keys(m), func(a, b K) int { return slices.Compare(a[:], b[:]) })
	return ids[random.IntN(len(ids))]
}

func (w *world) id() (id [16]byte) {
	for i := range id {
		id[i] = byte(w.random.Uint32())
	}
	return id
}

func (w *world) register() events.Event {
	id := events.DeploymentID(w.id())
	w.deployments[id] = fmt.Sprintf("model-%x", id[:3])
	return events.Event{Project: "demo", Subject: id, Rev: 1, Fact: &events.DeploymentRegistered{Name: w.deployments[id]}, Admin: events.Admin{Actor: "ada"}.Plain()}
}

func (w *world) create() events.Event {
	id := events.KeyID(w.id())
	k := modelKey{name: fmt.Sprintf("key-%x", id[:3]), rev: 1, expires: events.Never, opens: []events.DeploymentID{pick(w.random, w.deployments)}}
	w.keys[id] = k
	return events.Event{
		Project: "demo", Subject: id, Rev: 1, Fact: &events.Created{Digest: events.Digest(append(id[:], id[:]...)), Deployments: k.opens, ExpiresAt: k.expires},
		Admin: events.Admin{Actor: "ada", Name: &k.name}.Plain(),
	}
}

func (w *world) change(id events.KeyID) events.Event {
	k := w.keys[id]
	k.rev++
	e := events.Event{Project: "demo", Subject: id, Rev: k.rev, Admin: events.Admin{Actor: "ada"}.Plain()}
	d := pick(w.random, w.deployments)
	switch w.random.IntN(8) {
	case 0:
		e.Fact = &events.Deleted{}
		delete(w.keys, id)
		return e
	case 1:
		e.Fact, k.disabled = &events.Disabled{}, true
	case 2:
		e.Fact, k.disabled = &events.Enabled{}, false
	case 3:
		k.name, k.description = fmt.Sprintf("key-%d", w.random.IntN(1e9)), "later"
		e.Fact, e.Admin = &events.Edited{}, events.Admin{Actor: "bob", Name: &k.name, Description: &k.description}.Plain()
	case 4:
		e.Fact, k.opens = &events.Attached{Deployments: []events.DeploymentID{d}}, append(slices.Clone(k.opens), d)
	case 5:
		e.Fact = &events.Detached{Deployments: []events.DeploymentID{d}}
		k.opens = slices.DeleteFunc(slices.Clone(k.opens), func(o events.DeploymentID) bool { return o == d })
	case 6:
		k.expires, k.expired = events.Instant(1_790_000_000_000+w.random.IntN(400_000)), false
		e.Fact = &events.ExpiryChanged{ExpiresAt: k.expires}
	case 7:
		k.expired = true
		e.Fact = &events.Expired{ExpiresAt: k.expires}
	}
	w.keys[id] = k
	return e
}

// allowed is what the design says: a living, enabled key, before its instant, opens the registered deployments that it is attached to.
func (w *world) allowed(seq events.Seq, id events.KeyID, d events.DeploymentID, now events.Instant) bool {
	k, lives := w.behind[seq][id]
	_, stands := w.registered[seq][d]
	return lives && stands && !k.disabled && !k.expired && now < k.expires && slices.Contains(k.opens, d)
}

// stateAt replays from the beginning, as the command does.
func (w *world) stateAt(seq events.Seq, at events.Instant) *history.State {
	s := history.NewState(nil)
	for _, c := range w.commits {
		if c.First > seq || c.Time > at {
			break
		}
		require.NoError(w.t, s.Fold(c, seq))
	}
	return s
}

func TestTimeTravelEqualsTheModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := newWorld(t, seed, 120)
	random := rand.New(rand.NewPCG(seed, 8))
	last := events.Seq(len(w.behind) - 1)
	for range 10_000 {
		seq, at := 1+events.Seq(random.Uint64N(uint64(last))), events.Never
		if random.IntN(2) == 0 { // by time: everything of that instant is included
			at = w.times[seq] + events.Instant(random.IntN(3)-1)*250
			for seq = 0; seq < last && w.times[seq+1] <= at; {
				seq++
			}
		}
		until := seq
		if at != events.Never {
			until = last
		}
		s := w.stateAt(until, at)
		require.Equal(t, seq, s.Seq)
		w.requireSame(seq, s)
		now := w.times[seq] + events.Instant(random.IntN(100_000))
		for id, k := range s.Keys {
			d := pick(random, w.registered[last])
			registered := d
			if _, stands := s.Deployments[d]; !stands {
				registered = events.DeploymentID{}
			}
			require.Equal(t, w.allowed(seq, id, d, now), projections.Allow(&k, k.Digest, registered, now) == projections.Allowed)
		}
	}
}

func (w *world) requireSame(seq events.Seq, s *history.State) {
	w.t.Helper()
	require.Len(w.t, s.Keys, len(w.behind[seq]))
	require.Len(w.t, s.Deployments, len(w.registered[seq]))
	for id, want := range w.behind[seq] {
		got := s.Keys[id]
		require.Equal(w.t, []any{want.name, want.description, want.rev, want.expires, want.disabled, want.expired},
			[]any{got.Name, got.Description, got.Rev, got.ExpiresAt, got.Disabled, got.Expired})
		var opens []string
		for _, d := range want.opens {
			if name, stands := w.registered[seq][d]; stands && !slices.Contains(opens, name) {
				opens = append(opens, name)
			}
		}
		require.ElementsMatch(w.t, opens, s.Opens(&got))
	}
}

// A diff names every key that differs, and none that does not; from a state to itself there is nothing.
func TestDiffTellsWhatDiffers(t *testing.T) {
	w := newWorld(t, 5, 200)
	random := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		to := 1 + events.Seq(random.IntN(len(w.behind)-1))
		from := events.Seq(random.Uint64N(uint64(to)))
		a, b := w.stateAt(from, events.Never), w.stateAt(to, events.Never)
		told := map[string]bool{}
		for _, c := range history.Diff(a, b, a.Time, b.Time) {
			require.NotEmpty(t, c.What)
			told[c.ID] = true
		}
		for id := range w.behind[from] {
			if _, lives := w.behind[to][id]; !lives {
				assert.True(t, told[id.String()], "a deletion")
			}
		}
		for id, k := range w.behind[to] {
			old, lived := w.behind[from][id]
			if !lived || old.name != k.name || old.disabled != k.disabled || old.expires != k.expires {
				assert.True(t, told[id.String()], "%s from %d to %d", k.name, from, to)
			}
			if lived && old.rev == k.rev && len(w.registered[from]) == len(w.registered[to]) && k.expires.IsNever() && maps.Equal(w.registered[from], w.registered[to]) {
				assert.False(t, told[id.String()], "%s did not change", k.name)
			}
		}
		require.Empty(t, history.Diff(b, b, b.Time, b.Time))
	}
}

// The explanation is what every verifier would have said, and names an event for it.
func TestExplanationsAreTheLivePathsAnswers(t *testing.T) {
	w := newWorld(t, 6, 150)
	random := rand.New(rand.NewPCG(6, 6))
	for range 400 {
		seq := 1 + events.Seq(random.IntN(len(w.behind)-1))
		if len(w.behind[seq]) == 0 || len(w.registered[seq]) == 0 {
			continue
		}
		id, d := pick(random, w.behind[seq]), pick(random, w.registered[seq])
		x := history.NewExplainer(history.Question{Project: "demo", Key: w.behind[seq][id].name, Deployment: w.registered[seq][d]}, nil)
		for _, pass := range []func(*events.Commit, events.Seq) error{x.Search, x.Collect} {
			for _, c := range w.commits {
				require.NoError(t, pass(c, seq))
			}
		}
		now := w.times[seq]
		answer := x.Explain(now)
		require.Equal(t, id.String(), answer.Key)
		require.Equal(t, w.allowed(seq, id, d, now), answer.Allowed, "%s at %d", answer.Reason, seq)
		require.NotNil(t, answer.DecidedBy, "%s at %d", answer.Reason, seq)
		require.LessOrEqual(t, answer.DecidedBy.Seq, seq)
	}
}

// What an import carries over keeps its bytes and dates, and leaves behind what the old log alone was.
func TestCarryKeepsEventsAsTheyAre(t *testing.T) {
	w := newWorld(t, 7, 40)
	at := events.Position{Incarnation: events.Incarnation{9}, Seq: 1, Time: w.commits[0].Time, Chain: events.ChainHash{1}}
	carried := history.NewState(nil)
	for _, c := range w.commits {
		n, err := history.Carry(c, at)
		require.NoError(t, err)
		require.Equal(t, c.Time, n.Time)
		for i := range c.Events() {
			require.Equal(t, c.Leaf(i), n.Leaf(i))
		}
		body, err := n.Encode()
		require.NoError(t, err)
		at, err = at.Next(events.Entry{Commit: n, Chain: events.HashCommit(body)})
		require.NoError(t, err)
		require.NoError(t, carried.Fold(n, n.Last()))
	}
	was := w.stateAt(events.Seq(len(w.behind)-1), events.Never)
	require.Empty(t, history.Diff(was, carried, was.Time, carried.Time))

	own := &events.Commit{Schema: 1, First: 1, Time: 5}
	admin := events.Admin{Actor: "ada"}.Plain()
	require.NoError(t, own.Add(
		events.Event{Fact: &events.LogOpened{}, Admin: admin}, events.Event{Fact: &events.TermOpened{Term: 1}, Admin: admin},
		events.Event{Subject: [16]byte{1}, Rev: 1, Fact: &events.VerifierRegistered{}, Admin: admin}, events.Event{Fact: &events.SigningKeyAdded{}, Admin: admin},
	))
	n, err := history.Carry(own, at)
	require.NoError(t, err)
	require.Nil(t, n)
}
