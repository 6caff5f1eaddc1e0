package projections

import (
	"fmt"
	"maps"
	"slices"

	"github.com/keyfleet/keyfleet/events"
)

// Charter is what the log says of itself and its fleet: everything that belongs to no project.
type Charter struct {
	Incarnation events.Incarnation
	Term        uint64
	Registry    string // that opened the term, for people
	Schema      uint64 // newest that may be written
	SigningKeys []events.PublicKey
	Settings    map[string]string
	Lease       Lease
	Members     map[events.InstanceID]Member
	ChangedAt   events.Seq // of the last event that changed any of this
	ForeignKeys bool       // a key of another form than Keyfleet's own has been seen: such keys are looked up too
}

// Member is a verifier instance that has registered and not left.
type Member struct {
	Instance     events.InstanceID
	Verifier     string
	PoP          string
	Mode         events.Mode
	ServeBound   uint64 // ms
	Schema       uint64
	Version      string
	RegisteredAt events.Seq
	Since        events.Instant
}

// Evolve folds any event of the log in; those of keys and deployments change nothing but
// ForeignKeys. Maps and slices are replaced, never written to, so that a copy of a Charter stays as it
// was. The only error is ErrMisfit.
func (c *Charter) Evolve(e *events.Event, seq events.Seq, at events.Instant) error {
	_, opens := e.Fact.(*events.LogOpened)
	if opens != (seq == 1) {
		return fmt.Errorf("%w: %s at Seq %d", ErrMisfit, e.Fact.Type(), seq)
	}
	changedBefore := c.ChangedAt
	c.ChangedAt = seq
	switch f := e.Fact.(type) {
	case *events.LogOpened:
		*c = Charter{
			Incarnation: f.Incarnation,
			Schema:      1,
			Lease:       Lease{Length: DefaultLease},
			SigningKeys: []events.PublicKey{f.SigningKey},
			ChangedAt:   seq,
		}
	case *events.TermOpened:
		if f.Term <= c.Term {
			return fmt.Errorf("%w: term %d opened after term %d", ErrMisfit, f.Term, c.Term)
		}
		c.Term, c.Registry = f.Term, f.Registry
	case *events.SchemaRaised:
		c.Schema = max(c.Schema, f.Schema)
	case *events.SettingChanged:
		c.Settings = with(c.Settings, f.Name, f.Value)
		if f.Name == LeaseSetting {
			return c.Lease.change(f.Value, at)
		}
	case *events.SigningKeyAdded:
		c.SigningKeys = append(withoutKey(c.SigningKeys, f.SigningKey), f.SigningKey)
	case *events.SigningKeyRetired:
		c.SigningKeys = withoutKey(c.SigningKeys, f.SigningKey)
	case *events.VerifierRegistered:
		c.Members = with(c.Members, e.Instance(), Member{
			Instance: e.Instance(), Verifier: f.Verifier, PoP: f.PoP,
			Mode: f.Mode, ServeBound: f.ServeBound, Schema: f.Schema, Version: f.Version,
			RegisteredAt: seq, Since: at,
		})
	case *events.VerifierLeft:
		c.Members = maps.Clone(c.Members)
		delete(c.Members, e.Instance())
	default:
		c.ChangedAt = changedBefore
		if isForeign(e.Fact) && !c.ForeignKeys {
			c.ForeignKeys, c.ChangedAt = true, seq
		}
	}
	return nil
}

func isForeign(f events.Fact) bool {
	switch f := f.(type) {
	case *events.Created:
		return f.Foreign
	case *events.Rotated:
		return f.Foreign
	}
	return false
}

func with[K comparable, V any](m map[K]V, k K, v V) map[K]V {
	grown := make(map[K]V, len(m)+1)
	maps.Copy(grown, m)
	grown[k] = v
	return grown
}

func withoutKey(keys []events.PublicKey, gone events.PublicKey) []events.PublicKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k events.PublicKey) bool { return k == gone })
}
