package keyindex

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// history writes a log, and keeps what it comes to in the plainest way: maps of everything.
type history struct {
	t           testing.TB
	r           *rand.Rand
	position    events.Position
	charter     projections.Charter
	keys        map[events.KeyID]*projections.Key
	deployments map[events.DeploymentID]*projections.Deployment
	order       []events.KeyID // in the order of creation, so that a seed tells one story
	depOrder    []events.DeploymentID
	told        int // events that wait for their commit
}

func newHistory(t testing.TB, seed uint64) *history {
	t.Logf("seed %d", seed)
	return &history{
		t: t, r: rand.New(rand.NewPCG(seed, 1)),
		keys: map[events.KeyID]*projections.Key{}, deployments: map[events.DeploymentID]*projections.Deployment{},
	}
}

func (h *history) bytes32() (b [32]byte) {
	for i := range b {
		b[i] = byte(h.r.Uint32())
	}
	return b
}

func (h *history) id() [16]byte { b := h.bytes32(); return [16]byte(b[:16]) }

// commit puts facts, each with its subject, into one commit.
func (h *history) commit(es ...events.Event) events.Entry {
	c := &events.Commit{
		Schema: events.Schema, Incarnation: h.position.Incarnation, Term: h.position.Term,
		First: h.position.Seq + 1, Parent: h.position.Chain, Time: h.position.Time + 10,
	}
	if h.position.Seq == 0 {
		if opened, ok := es[0].Fact.(*events.LogOpened); ok {
			c.Incarnation = opened.Incarnation
		}
	}
	require.NoError(h.t, c.Add(es...))
	entry := events.Entry{Commit: c, Chain: h.bytes32(), StreamSeq: h.position.StreamSeq + 1}
	var err error
	h.position, err = h.position.Next(entry)
	require.NoError(h.t, err)
	h.told = 0
	return entry
}

func (h *history) open() events.Entry {
	e := h.tell("", [16]byte{}, &events.LogOpened{Incarnation: h.id(), SigningKey: h.bytes32()})
	return h.commit(e)
}

// tell makes the event and folds it into the model.
func (h *history) tell(project string, subject [16]byte, fact events.Fact) events.Event {
	e := events.Event{Project: project, Subject: subject, Fact: fact, Admin: events.Admin{Actor: "dev"}.Plain()}
	require.NoError(h.t, h.charter.Evolve(&e, h.position.Seq+1+events.Seq(h.told), h.position.Time+10))
	h.told++
	switch fact.(type) {
	case *events.DeploymentRegistered, *events.DeploymentEdited, *events.DeploymentRemoved:
		d := h.deployments[subject]
		if d == nil {
			d = &projections.Deployment{}
			h.deployments[subject] = d
			h.depOrder = append(h.depOrder, subject)
		}
		e.Rev = d.Rev + 1
		require.NoError(h.t, d.Evolve(&e, 0, 0))
	case *events.LogOpened, *events.TermOpened, *events.SettingChanged, *events.VerifierRegistered, *events.VerifierLeft:
	default:
		k := h.keys[subject]
		if k == nil {
			k = &projections.Key{}
			h.keys[subject] = k
			h.order = append(h.order, subject)
		}
		e.Rev = k.Rev + 1
		require.NoError(h.t, k.Evolve(&e))
	}
	return e
}

func (h *history) livingDeployments() []events.DeploymentID {
	return slices.DeleteFunc(slices.Clone(h.depOrder), func(id events.DeploymentID) bool { return !h.deployments[id].Exists() })
}

func (h *history) livingKeys() []events.KeyID {
	return slices.DeleteFunc(slices.Clone(h.order), func(id events.KeyID) bool { return !h.keys[id].Exists() })
}

// step is one event, of any kind that fits.
func (h *history) step() events.Event {
	keys, deps := h.livingKeys(), h.livingDeployments()
	pick := h.r.IntN(16)
	switch {
	case pick == 0 || len(deps) == 0:
		free := h.freeName()
		return h.tell("demo", h.id(), &events.DeploymentRegistered{Name: free, Upstream: "http://up", Host: free})
	case pick == 1 && len(deps) > 3:
		return h.tell("demo", deps[h.r.IntN(len(deps))], &events.DeploymentRemoved{})
	case pick == 2:
		return h.tell("demo", deps[h.r.IntN(len(deps))], &events.DeploymentEdited{Upstream: name(h.r.IntN(99))})
	case pick == 3:
		return h.logEvent()
	case pick < 7 || len(keys) == 0:
		return h.tell("demo", h.id(), &events.Created{
			Digest: h.bytes32(), ExpiresAt: events.Instant(h.r.Int64()), Foreign: h.r.IntN(50) == 0,
			Deployments: h.some(deps), Role: []string{"", "owner"}[h.r.IntN(2)],
		})
	default:
		return h.tell("demo", keys[h.r.IntN(len(keys))], h.keyFact(deps))
	}
}

// freeName is often the name of a deployment that was removed.
func (h *history) freeName() string {
	taken := map[string]bool{}
	for _, d := range h.deployments {
		taken[d.Name] = true
	}
	n := h.r.IntN(8)
	for taken[name(n)] {
		n++
	}
	return name(n)
}

func (h *history) logEvent() events.Event {
	if h.r.IntN(2) == 0 {
		return h.tell("", [16]byte{}, &events.SettingChanged{Name: name(h.r.IntN(3)), Value: name(h.r.IntN(99))})
	}
	return h.tell("", h.id(), &events.VerifierRegistered{Verifier: "v", PoP: "here", Mode: events.ModeDeny, Version: "1"})
}

func (h *history) keyFact(deps []events.DeploymentID) events.Fact {
	facts := []events.Fact{
		&events.Edited{}, &events.Attached{Deployments: h.some(deps)}, &events.Detached{Deployments: h.some(deps)},
		&events.ExpiryChanged{ExpiresAt: events.Never}, &events.Expired{ExpiresAt: events.Never},
		&events.Disabled{}, &events.Enabled{}, &events.GraceEnded{}, &events.Deleted{},
		&events.Rotated{Digest: h.bytes32(), GraceUntil: events.Instant(h.r.Int64N(2) * 1000)},
		&events.Rotated{Digest: h.bytes32(), GraceUntil: 77, Foreign: true},
	}
	return facts[h.r.IntN(len(facts))]
}

func (h *history) some(deps []events.DeploymentID) []events.DeploymentID {
	var chosen []events.DeploymentID
	for _, d := range deps {
		if h.r.IntN(3) == 0 {
			chosen = append(chosen, d)
		}
	}
	return chosen
}

func name(n int) string {
	return "name-" + string(rune('a'+n%26)) + string(rune('a'+n/26%26)) + string(rune('a'+n/676%26))
}

// next is a commit of 1 to most events.
func (h *history) next(most int) events.Entry {
	es := make([]events.Event, 0, most)
	for range 1 + h.r.IntN(most) {
		es = append(es, h.step())
	}
	return h.commit(es...)
}

// requireSame compares the index with what the log comes to.
func (h *history) requireSame(idx *Index) {
	h.t.Helper()
	require.Equal(h.t, h.position, idx.Position())
	require.Equal(h.t, &h.charter, idx.Charter())
	entries := 2 + len(h.livingDeployments())
	for _, k := range h.keys {
		if !k.Exists() {
			continue
		}
		entries += 2
		found, err := idx.Find(k.Digest)
		require.NoError(h.t, err)
		requireKey(h.t, *k, found)
		if !k.Grace.Digest.IsZero() {
			entries++
			found, err := idx.Find(k.Grace.Digest)
			require.NoError(h.t, err)
			requireKey(h.t, *k, found)
		}
	}
	for _, d := range h.deployments {
		if d.Exists() {
			require.Equal(h.t, *d, idx.Deployments().Named(d.Project, d.Name).Deployment)
			if d.Host != "" {
				require.Equal(h.t, *d, idx.Deployments().AtHost(d.Host).Deployment)
			}
		}
	}
	require.Len(h.t, slices.Collect(idx.Deployments().All()), len(h.livingDeployments()))
	require.Len(h.t, dump(h.t, idx), entries, "nothing else is stored")
}

func requireKey(t testing.TB, want, got projections.Key) {
	t.Helper()
	if len(want.Deployments) == 0 {
		want.Deployments = nil
	}
	require.Equal(t, want, got)
}

// dump is everything that is stored.
func dump(t testing.TB, idx *Index) map[string]string {
	all := map[string]string{}
	iter, err := idx.db.NewIter(nil)
	require.NoError(t, err)
	for ok := iter.First(); ok; ok = iter.Next() {
		all[string(iter.Key())] = string(iter.Value())
	}
	require.NoError(t, iter.Close())
	return all
}
