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
	Members     map[events.InstanceID]Member
	ForeignKeys bool // a key of another form than Keyfleet's own has been seen: such keys are looked up too
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

// Clone gives a copy that shares nothing that Evolve writes to.
func (c *Charter) Clone() Charter {
	d := *c
	d.SigningKeys = slices.Clone(c.SigningKeys)
	d.Settings = maps.Clone(c.Settings)
	d.Members = maps.Clone(c.Members)
	return d
}

// Evolve folds any event of the log in; those of keys and deployments change nothing but
// ForeignKeys. The only error is ErrMisfit.
func (c *Charter) Evolve(e *events.Event, seq events.Seq, at events.Instant) error {
	_, opens := e.Fact.(*events.LogOpened)
	if opens != (seq == 1) {
		return fmt.Errorf("%w: %s at Seq %d", ErrMisfit, e.Fact.Type(), seq)
	}
	switch f := e.Fact.(type) {
	case *events.LogOpened:
		*c = Charter{
			Incarnation: f.Incarnation,
			Schema:      1,
			SigningKeys: []events.PublicKey{f.SigningKey},
			Settings:    map[string]string{},
			Members:     map[events.InstanceID]Member{},
		}
	case *events.TermOpened:
		if f.Term <= c.Term {
			return fmt.Errorf("%w: term %d opened after term %d", ErrMisfit, f.Term, c.Term)
		}
		c.Term, c.Registry = f.Term, f.Registry
	case *events.SchemaRaised:
		c.Schema = max(c.Schema, f.Schema)
	case *events.SettingChanged:
		c.Settings[f.Name] = f.Value
	case *events.SigningKeyAdded:
		if !slices.Contains(c.SigningKeys, f.SigningKey) {
			c.SigningKeys = append(c.SigningKeys, f.SigningKey)
		}
	case *events.SigningKeyRetired:
		c.SigningKeys = slices.DeleteFunc(c.SigningKeys, func(k events.PublicKey) bool { return k == f.SigningKey })
	case *events.VerifierRegistered:
		c.Members[e.Instance()] = Member{
			Instance: e.Instance(), Verifier: f.Verifier, PoP: f.PoP,
			Mode: f.Mode, ServeBound: f.ServeBound, Schema: f.Schema, Version: f.Version,
			RegisteredAt: seq, Since: at,
		}
	case *events.VerifierLeft:
		delete(c.Members, e.Instance())
	case *events.Created:
		c.ForeignKeys = c.ForeignKeys || f.Foreign
	case *events.Rotated:
		c.ForeignKeys = c.ForeignKeys || f.Foreign
	}
	return nil
}
