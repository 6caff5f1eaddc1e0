package history

import (
	"strconv"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// describeLogFact tells the facts about the log and the fleet.
func (n *Entry) describeLogFact(f events.Fact) {
	switch f := f.(type) {
	case *events.LogOpened:
		n.detail("incarnation", f.Incarnation.String())
		n.detail("signing_key", f.SigningKey.String())
	case *events.TermOpened:
		n.detail("term", strconv.FormatUint(f.Term, 10))
		n.detail("registry", f.Registry)
	case *events.SchemaRaised:
		n.detail("schema", strconv.FormatUint(f.Schema, 10))
		n.flag("forced", f.Forced)
	case *events.SettingChanged:
		n.detail(f.Name, f.Value)
	case *events.SigningKeyAdded:
		n.detail("signing_key", f.SigningKey.String())
	case *events.SigningKeyRetired:
		n.detail("signing_key", f.SigningKey.String())
	case *events.ProjectOpened:
		n.detail("data_key", f.DataKey)
		n.detail("wrapped_by", f.WrappedBy)
	case *events.VerifierRegistered:
		n.Name = f.Verifier
		n.detail("pop", f.PoP)
		n.detail("mode", string(f.Mode))
		if f.ServeBound > 0 {
			n.detail("serve_bound", (time.Duration(f.ServeBound) * time.Millisecond).String())
		}
		n.detail("schema", strconv.FormatUint(f.Schema, 10))
		n.detail("version", f.Version)
	case *events.VerifierLeft:
		n.detail("why", f.Why)
	}
}
