package catalog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/expiry"
)

// TestFold plays random commands with crashes in between. After each crash the position is that of an exact prefix
// of the log; folded on from there, the catalog is to the byte what one fold of the whole log makes. Now and then it learns anew what
// is not there.
func TestFold(t *testing.T) {
	fs := vfs.NewCrashableMem()
	c, w := begin(t, fs)
	rng := w.rng
	for step := range 8000 {
		c.Forget(rng.IntN(50) == 0)
		w.step(c)
		if rng.IntN(300) == 0 {
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			require.NoError(t, c.Close())
			fs, c = crashed, open(t, crashed)
			at := c.Position()
			require.LessOrEqual(t, int(at.StreamSeq), len(w.log))
			if at.StreamSeq > 0 {
				require.Equal(t, w.log[at.StreamSeq-1].Chain, at.Chain, "step %d", step)
			}
			require.NoError(t, c.Apply(w.log[at.StreamSeq:]))
		}
	}
	whole := open(t, vfs.NewMem())
	require.NoError(t, whole.Apply(w.log))
	require.Equal(t, whole.Dump(), c.Dump())
	w.requireHistory(c)
	require.Greater(t, len(w.log), 800, "commands that took effect")
	require.NoError(t, whole.Close())
	require.NoError(t, c.Close())
}

// TestNext decides each commit's commands while the commit before is still being folded in, and that what is not there is learnt anew.
// What comes of it is to the byte what one fold of the whole log makes.
func TestNext(t *testing.T) {
	c, w := begin(t, vfs.NewMem())
	at := c.Position()
	flying := c.Begin(at.Seq+1, at.StreamSeq+1, w.now)
	first := events.Event{Project: "acme", Fact: &events.ProjectOpened{}, Admin: events.Admin{}.Plain()}
	require.NoError(t, flying.Fold(first))
	decided := []events.Event{first}
	decide := func(on *catalog.Txn) {
		for decided = nil; len(decided) < 5; {
			es := w.decide(on)
			require.NoError(t, on.Fold(es...))
			decided = append(decided, es...)
		}
	}
	for range 500 {
		entry, landed := w.entry(c.Position(), decided), make(chan error, 1)
		w.now += events.Instant(w.rng.IntN(100_000))
		if w.rng.IntN(10) == 0 { // nothing is at hand while it lands
			require.NoError(t, flying.Commit(entry))
			c.Forget(true)
			flying = c.Begin(entry.Commit.Last()+1, entry.StreamSeq+1, w.now)
			decide(flying)
			continue
		}
		behind := flying.Next(w.now)
		go func(flying *catalog.Txn) { landed <- flying.Commit(entry) }(flying)
		decide(behind)
		require.NoError(t, <-landed)
		flying = behind
	}
	whole := open(t, vfs.NewMem())
	require.NoError(t, whole.Apply(w.log))
	require.Equal(t, whole.Dump(), c.Dump())
	require.NoError(t, whole.Close())
	require.NoError(t, c.Close())
}

func open(t *testing.T, fs vfs.FS) *catalog.Catalog {
	c, err := catalog.Open("catalog", catalog.Options{FS: fs})
	require.NoError(t, err)
	return c
}

// world makes a history: small names, so that commands meet.
type world struct {
	t   *testing.T
	rng *rand.Rand
	now events.Instant
	log []events.Entry
}

// begin opens a catalog of a log that has just been opened, with chance of its own.
func begin(t *testing.T, fs vfs.FS) (*catalog.Catalog, *world) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c, w := open(t, fs), &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), now: 1_800_000_000_000}
	w.append(c, events.Event{Fact: &events.LogOpened{Incarnation: events.Incarnation{1}}, Admin: events.Admin{}.Plain()})
	return c, w
}

func (w *world) step(c *catalog.Catalog) {
	w.now += events.Instant(w.rng.IntN(100_000))
	at := c.Position()
	txn := c.Begin(at.Seq+1, at.StreamSeq+1, w.now)
	w.append(c, w.decide(txn)...)
}

// decide gives what a random command, or the calendar, makes of the state.
func (w *world) decide(txn *catalog.Txn) []events.Event {
	if w.rng.IntN(10) == 0 {
		es, err := expiry.Due(txn, w.now, 50)
		require.NoError(w.t, err)
		return es
	}
	cmd := w.command()
	chance := registry.Chance{ID: w.bits(), Digest: events.Digest(append(w.bitsSlice(), w.bitsSlice()...)), Hint: "kf_aaaa…zzzz"}
	out, err := registry.Decide(txn, &cmd, chance, w.now)
	var refusal *registry.Refusal
	if errors.As(err, &refusal) {
		return nil
	}
	require.NoError(w.t, err)
	return out.Events
}

func (w *world) bits() [16]byte { return [16]byte(w.bitsSlice()) }

func (w *world) bitsSlice() []byte {
	b := make([]byte, 16)
	for i := range b {
		b[i] = byte(w.rng.Uint32())
	}
	return b
}

func (w *world) command() registry.Command {
	pick := func(options ...string) string { return options[w.rng.IntN(len(options))] }
	key := fmt.Sprintf("key-%d", w.rng.IntN(40))
	deployments := []string{pick("dep-0", "dep-1", "dep-2"), pick("dep-0", "dep-1", "dep-2")}
	expires := pick("never", "2020-01-01", (w.now + events.Instant(w.rng.IntN(3_000_000))).String())
	grace := pick("0", "1h", "10m")
	host := pick("", "a.example.org", "b.example.org")
	cmd := registry.Command{Project: pick("acme", "zeta"), Actor: "alice"}
	cmd.Verb = registry.Verb(pick("key.create", "key.create", "key.edit", "key.attach", "key.detach", "key.expire", "key.disable",
		"key.enable", "key.rotate", "key.delete", "deployment.register", "deployment.edit", "deployment.remove"))
	r := &cmd.Request
	r.CommandID = pick("", "", "", fmt.Sprint(w.rng.IntN(1000)))
	r.Key = key
	switch cmd.Verb {
	case registry.KeyCreate:
		r.Key, r.Name, r.ExpiresAt, r.Deployments = "", key, &expires, &deployments
	case registry.KeyEdit:
		r.Name, r.ExpiresAt, r.Deployments = fmt.Sprintf("key-%d", w.rng.IntN(40)), &expires, &deployments
	case registry.KeyAttach, registry.KeyDetach:
		r.Deployments = &deployments
	case registry.KeyExpire:
		r.ExpiresAt = &expires
	case registry.KeyRotate:
		r.Grace = &grace
	case registry.DeploymentRegister, registry.DeploymentEdit, registry.DeploymentRemove:
		r.Key, r.Name, r.Host = "", deployments[0], &host
	}
	return cmd
}

// append makes a commit of the events and folds it in, through its bytes.
func (w *world) append(c *catalog.Catalog, es ...events.Event) {
	if len(es) == 0 {
		return
	}
	e := w.entry(c.Position(), es)
	require.NoError(w.t, c.Apply([]events.Entry{e}))
}

// entry appends a commit of the events to the log.
func (w *world) entry(at events.Position, es []events.Event) events.Entry {
	commit := &events.Commit{Schema: 1, Incarnation: events.Incarnation{1}, First: at.Seq + 1, Parent: at.Chain, Time: w.now}
	require.NoError(w.t, commit.Add(es...))
	body, err := commit.Encode()
	require.NoError(w.t, err)
	decoded, err := events.DecodeCommit(body)
	require.NoError(w.t, err)
	e := events.Entry{Commit: decoded, Chain: events.HashCommit(body), StreamSeq: at.StreamSeq + 1}
	w.log = append(w.log, e)
	return e
}

// TestProjectOpenedAgain brings a further data key, and opens nothing.
func TestProjectOpenedAgain(t *testing.T) {
	c := open(t, vfs.NewMem())
	defer func() { require.NoError(t, c.Close()) }()
	admin := events.Admin{}.Plain()
	txn := c.Begin(1, 1, 5)
	require.NoError(t, txn.Fold(
		events.Event{Fact: &events.LogOpened{}, Admin: admin},
		events.Event{Project: "acme", Fact: &events.ProjectOpened{}, Admin: admin},
		events.Event{Project: "acme", Subject: [16]byte{1}, Rev: 1, Fact: &events.Created{}, Admin: admin},
		events.Event{Project: "acme", Fact: &events.ProjectOpened{DataKey: "dk-2"}, Admin: admin},
	))
	p, err := txn.Project("acme")
	require.NoError(t, err)
	require.Equal(t, catalog.Project{Name: "acme", OpenedAt: 5, OpenedSeq: 2, Keys: 1}, p)
}

// TestDeploymentsOfATxn: each look finds a deployment as the events so far have left it, in the Txn that took them and behind it.
func TestDeploymentsOfATxn(t *testing.T) {
	c := open(t, vfs.NewMem())
	defer func() { require.NoError(t, c.Close()) }()
	txn := c.Begin(1, 1, 5)
	fold := func(subject byte, rev uint64, fact events.Fact) {
		require.NoError(t, txn.Fold(events.Event{
			Project: "acme", Subject: [16]byte{subject}, Rev: rev, Fact: fact, Admin: events.Admin{}.Plain(),
		}))
	}
	require.NoError(t, txn.Fold(events.Event{Fact: &events.LogOpened{}, Admin: events.Admin{}.Plain()}))
	requireDeployment := func(id byte, upstream string) {
		for range 2 {
			d, err := txn.DeploymentNamed("acme", "echo")
			require.NoError(t, err)
			require.Equal(t, events.DeploymentID{id}, d.ID)
			require.Equal(t, upstream, d.Upstream)
			same, err := txn.Deployment(events.DeploymentID{id})
			require.NoError(t, err)
			require.Equal(t, d, same)
		}
	}
	requireDeployment(0, "")
	fold(1, 1, &events.DeploymentRegistered{Name: "echo", Upstream: "http://first"})
	requireDeployment(1, "http://first")
	txn = txn.Next(6)
	requireDeployment(1, "http://first")
	fold(1, 2, &events.DeploymentEdited{Upstream: "http://next"})
	requireDeployment(1, "http://next")
	fold(1, 3, &events.DeploymentRemoved{})
	requireDeployment(0, "")
	fold(2, 1, &events.DeploymentRegistered{Name: "echo", Upstream: "http://second"})
	requireDeployment(2, "http://second")
}

// requireHistory looks whether the catalog knows where each key's events stand, the newest first.
func (w *world) requireHistory(c *catalog.Catalog) {
	want := map[events.KeyID][]catalog.Place{}
	for _, e := range w.log {
		for i, event := range e.Commit.Events() {
			if strings.HasPrefix(string(event.Fact.Type()), "deployment_") {
				continue
			}
			at := catalog.Place{Seq: e.Commit.First + events.Seq(i), StreamSeq: e.StreamSeq}
			want[event.Key()] = append([]catalog.Place{at}, want[event.Key()]...)
		}
	}
	delete(want, events.KeyID{})
	r := c.Read()
	for id, places := range want {
		var got []catalog.Place
		require.NoError(w.t, r.History(id, func(at catalog.Place) (bool, error) {
			got = append(got, at)
			return true, nil
		}))
		require.Equal(w.t, places, got)
	}
	require.Greater(w.t, len(want), 100)
	require.NoError(w.t, r.Close())
}

// TestHistoryMeanwhile: a history is that of the moment at which it was begun, whatever happens to the key before it is read.
func TestHistoryMeanwhile(t *testing.T) {
	c, w := withKeys(t, vfs.NewMem())
	say := func(rev uint64, f events.Fact) {
		w.append(c, events.Event{Project: "acme", Subject: [16]byte{keyA}, Rev: rev, Fact: f, Admin: events.Admin{}.Plain()})
	}
	say(2, &events.Disabled{})
	for _, meanwhile := range []func(){
		func() { say(3, &events.Enabled{}); say(4, &events.Disabled{}) },
		func() { say(5, &events.Deleted{}) },
	} {
		r := c.Read()
		var seqs []events.Seq
		k, err := r.Key(events.KeyID{keyA})
		require.NoError(t, err)
		require.NoError(t, r.History(events.KeyID{keyA}, func(at catalog.Place) (bool, error) {
			if seqs = append(seqs, at.Seq); len(seqs) == 1 {
				require.Equal(t, k.Seq, at.Seq)
				meanwhile()
			}
			return true, nil
		}))
		require.Len(t, seqs, int(k.Rev))
		require.IsDecreasing(t, seqs)
		require.NoError(t, r.Close())
	}
	require.NoError(t, c.Close())
}

// TestMisfit: what stands before an event that fits nowhere is folded in, however it is handed over.
func TestMisfit(t *testing.T) {
	c := open(t, vfs.NewMem())
	_, w := withKeys(t, vfs.NewMem())
	w.entry(events.Position{Incarnation: events.Incarnation{1}, Seq: 3, StreamSeq: 3, Chain: w.log[2].Chain}, []events.Event{
		{Project: "acme", Subject: [16]byte{keyA}, Rev: 7, Fact: &events.Disabled{}, Admin: events.Admin{}.Plain()},
	})
	require.ErrorIs(t, c.Apply(w.log), projections.ErrMisfit)
	require.EqualValues(t, 3, c.Position().Seq)
	require.ErrorIs(t, c.Apply(w.log[3:]), projections.ErrMisfit)
	r := c.Read()
	k, err := r.Key(events.KeyID{keyB})
	require.NoError(t, err)
	require.True(t, k.Exists())
	require.NoError(t, errors.Join(r.Close(), c.Close()))
}

// TestReader: look-ups of a reader see what those of a decision would, whether it is stored or not, and so do those behind an
// iteration; a reader that iterated goes on in that state.
func TestReader(t *testing.T) {
	c, w := begin(t, vfs.NewMem())
	found := 0
	compare := func(want, got registry.State) {
		for _, project := range []string{"acme", "zeta"} {
			p, err := want.Project(project)
			require.NoError(t, err)
			have, err := got.Project(project)
			require.NoError(t, err)
			require.Equal(t, p, have)
			for i := range 40 {
				k, err := want.KeyNamed(project, fmt.Sprintf("key-%d", i))
				require.NoError(t, err)
				have, err := got.KeyNamed(project, fmt.Sprintf("key-%d", i))
				require.NoError(t, err)
				require.Equal(t, k, have)
				if k.Exists() {
					found++
				}
			}
		}
	}
	for range 200 {
		for range w.rng.IntN(5) {
			w.step(c)
		}
		r, at := c.Read(), c.Position()
		require.Equal(t, at, r.Position)
		txn := c.Begin(at.Seq+1, at.StreamSeq+1, w.now)
		compare(txn, r)
		if w.rng.IntN(10) == 0 {
			for range 20 {
				w.step(c)
			}
			then := c.Read()
			for _, reader := range []*catalog.Reader{then, r} {
				all, err := reader.Projects()
				require.NoError(t, err)
				for _, p := range all {
					have, err := reader.Project(p.Name)
					require.NoError(t, err)
					require.Equal(t, p, have)
				}
			}
			compare(then, r)
			was := revisions(t, r)
			for range 20 {
				w.step(c)
			}
			require.Equal(t, was, revisions(t, r))
			require.NoError(t, then.Close())
		}
		require.NoError(t, r.Close())
	}
	require.Greater(t, found, 300)
	require.NoError(t, c.Close())
}

func revisions(t *testing.T, r *catalog.Reader) (all []uint64) {
	for _, project := range []string{"acme", "zeta"} {
		for i := range 40 {
			k, err := r.KeyNamed(project, fmt.Sprintf("key-%d", i))
			require.NoError(t, err)
			all = append(all, k.Rev)
		}
	}
	return all
}
