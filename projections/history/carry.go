package history

import "github.com/keyfleet/keyfleet/events"

// Carry makes of a commit of one log the commit that brings its events into another, behind a position there; nil if none of
// them belongs there. Events keep their bytes, sealed ones included, and commits their dates, so keys, deployments, settings
// and command ids come back as they were, under other Seqs.
//
// Left behind is what was true of the old log alone: its opening and its keys, its terms, and the verifiers that followed it,
// which have to register anew.
func Carry(c *events.Commit, after events.Position) (*events.Commit, error) {
	var carried []events.Event
	list := c.Events()
	for i := range list {
		switch list[i].Fact.(type) {
		case *events.LogOpened, *events.SigningKeyAdded, *events.SigningKeyRetired,
			*events.TermOpened, *events.VerifierRegistered, *events.VerifierLeft:
		default:
			carried = append(carried, list[i])
		}
	}
	if len(carried) == 0 {
		return nil, nil
	}
	n := &events.Commit{
		Schema:      c.Schema,
		Incarnation: after.Incarnation,
		Term:        after.Term, // the restore's: no registry wrote this
		First:       after.Seq + 1,
		Parent:      after.Chain,
		Time:        c.Time,
	}
	return n, n.Add(carried...)
}
