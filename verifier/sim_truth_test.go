package verifier_test

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// truth is what the log says, folded by other code than the one that is tested: of every key all that it ever was.
type truth struct {
	read    uint64 // messages of the stream
	at      events.Position
	keys    map[events.KeyID]*biography
	secrets map[events.Digest]events.KeyID
	names   map[events.DeploymentID]string
	places  []where // of all deployments, by Seq
	effects map[string]events.Seq
}

// biography is what a key was from which Seq on.
type biography struct {
	since []events.Seq
	was   []life
}

// life is a key at one moment.
type life struct {
	alive, disabled, expired bool
	secret, before           events.Digest // before is the one that opens until graceUntil
	expires, graceUntil      events.Instant
	opens                    []events.DeploymentID
}

// where is which deployment had the name from a Seq on; none if it is zero.
type where struct {
	since events.Seq
	name  string
	is    events.DeploymentID
}

func newTruth() *truth {
	return &truth{
		keys: map[events.KeyID]*biography{}, secrets: map[events.Digest]events.KeyID{},
		names: map[events.DeploymentID]string{}, effects: map[string]events.Seq{},
	}
}

// fold takes a commit in, and says what must not stand in a log.
func (t *truth) fold(e events.Entry) error {
	next, err := t.at.Next(e)
	if err != nil {
		return err
	}
	in := map[string]bool{} // command ids whose events are in this commit
	for i, event := range e.Commit.Events() {
		seq := e.Commit.First + events.Seq(i)
		if err := t.count(&event, seq, in); err != nil {
			return err
		}
		if err := t.foldEvent(&event, seq); err != nil {
			return err
		}
	}
	t.at, t.read = next, e.StreamSeq
	return nil
}

// count holds that a command id takes effect once.
func (t *truth) count(e *events.Event, seq events.Seq, in map[string]bool) error {
	admin, err := e.Open(nil)
	if err != nil || admin.CommandID == "" {
		return err
	}
	id := e.Project + "/" + admin.Actor + "/" + admin.CommandID
	if before, twice := t.effects[id]; twice && !in[id] {
		return fmt.Errorf("command id %s took effect at Seq %d and again at Seq %d", id, before, seq)
	}
	in[id], t.effects[id] = true, seq
	return nil
}

func (t *truth) foldEvent(e *events.Event, seq events.Seq) error {
	switch f := e.Fact.(type) {
	case *events.DeploymentRegistered:
		t.names[e.Deployment()] = f.Name
		t.places = append(t.places, where{seq, f.Name, e.Deployment()})
		return nil
	case *events.DeploymentRemoved:
		t.places = append(t.places, where{seq, t.names[e.Deployment()], events.DeploymentID{}})
		return nil
	case *events.Created:
		t.keys[e.Key()] = &biography{}
	}
	b := t.keys[e.Key()]
	if b == nil {
		return nil // of the log itself, or of the fleet
	}
	l := b.at(seq)
	if f, is := e.Fact.(*events.Expired); is && f.ExpiresAt > soonOf(time.Now()) {
		return fmt.Errorf("Seq %d has a key expire that lives until %s", seq, f.ExpiresAt)
	}
	l.become(e.Fact)
	t.secrets[l.secret] = e.Key()
	b.since, b.was = append(b.since, seq), append(b.was, l)
	return nil
}

// soonOf is as far ahead as the clock of a registry that is trusted may be.
func soonOf(now time.Time) events.Instant { return events.InstantOf(now.Add(2100 * time.Millisecond)) }

func (l *life) become(fact events.Fact) {
	switch f := fact.(type) {
	case *events.Created:
		*l = life{alive: true, secret: f.Digest, expires: f.ExpiresAt, opens: f.Deployments}
	case *events.Attached:
		l.opens = append(slices.Clone(l.opens), f.Deployments...)
	case *events.Detached:
		l.opens = slices.DeleteFunc(slices.Clone(l.opens), func(d events.DeploymentID) bool { return slices.Contains(f.Deployments, d) })
	case *events.ExpiryChanged:
		l.expires, l.expired = f.ExpiresAt, false
	case *events.Expired:
		l.expired = true
	case *events.Disabled:
		l.disabled = true
	case *events.Enabled:
		l.disabled = false
	case *events.Rotated:
		l.before, l.graceUntil, l.secret = l.secret, f.GraceUntil, f.Digest
		if f.GraceUntil == 0 {
			l.before = events.Digest{}
		}
	case *events.GraceEnded:
		l.before = events.Digest{}
	case *events.Deleted:
		l.alive = false
	}
}

func (b *biography) at(seq events.Seq) life {
	i := sort.Search(len(b.since), func(i int) bool { return b.since[i] > seq })
	if i == 0 {
		return life{}
	}
	return b.was[i-1]
}

// deployment is which one has the name at seq.
func (t *truth) deployment(name string, seq events.Seq) (is events.DeploymentID) {
	for _, p := range t.places {
		if p.since <= seq && p.name == name {
			is = p.is
		}
	}
	return is
}

// decideWithin says how it may fare when it is some time between the two: a secret in its grace may see its key expire first,
// and then its grace end.
func (t *truth) decideWithin(secret events.Digest, deployment string, seq events.Seq, earliest, latest events.Instant) []projections.Reason {
	may := []projections.Reason{t.decide(secret, deployment, seq, earliest), t.decide(secret, deployment, seq, latest)}
	if b := t.keys[t.secrets[secret]]; b != nil {
		l := b.at(seq)
		for _, end := range []events.Instant{l.expires, l.graceUntil} {
			if earliest < end && end < latest {
				may = append(may, t.decide(secret, deployment, seq, end))
			}
		}
	}
	return may
}

// decide says how a presented secret fares at seq when it is now.
func (t *truth) decide(secret events.Digest, deployment string, seq events.Seq, now events.Instant) projections.Reason {
	b := t.keys[t.secrets[secret]]
	if b == nil {
		return projections.Unknown
	}
	l := b.at(seq)
	d := t.deployment(deployment, seq)
	switch {
	case !l.alive, secret != l.secret && secret != l.before:
		return projections.Unknown
	case secret != l.secret && now >= l.graceUntil:
		return projections.RotatedOut
	case l.disabled:
		return projections.KeyDisabled
	case l.expired, now >= l.expires:
		return projections.KeyExpired
	case d.IsZero():
		return projections.NoDeployment
	case !slices.Contains(l.opens, d):
		return projections.NotAttached
	default:
		return projections.Allowed
	}
}
