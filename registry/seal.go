package registry

import "github.com/keyfleet/keyfleet/events"

// registryActor is whom the log names for what a registry does by itself.
const registryActor = "_registry"

// seal seals admin parts, where there is a sealing key, under the data key of each event's project. A project that has none
// yet, or one wrapped by a sealing key that was replaced, is brought a new one before that.
func (g *group) seal(es []events.Event) ([]events.Event, error) {
	if !g.s.catalog.Ring().Seals() {
		return es, nil
	}
	under := map[string]string{} // data keys, by project
	sealed := make([]events.Event, 0, len(es)+1)
	for _, e := range es {
		if _, first := e.Fact.(*events.TermOpened); first { // nothing may come before it in its term, and it names nobody
			sealed = append(sealed, e)
			continue
		}
		if err := g.bringDataKey(&e, under, &sealed); err != nil {
			return nil, err
		}
		if err := g.s.catalog.Ring().Seal(&e, under[e.Project]); err != nil {
			return nil, err
		}
		sealed = append(sealed, e)
	}
	return sealed, nil
}

// bringDataKey sees to it that the project of e has a data key. A project's opening brings it along.
func (g *group) bringDataKey(e *events.Event, under map[string]string, sealed *[]events.Event) error {
	if under[e.Project] != "" {
		return nil
	}
	ring := g.s.catalog.Ring()
	newest, err := g.txn.DataKeyOf(e.Project)
	if err != nil {
		return err
	}
	if under[e.Project] = newest.DataKey; ring.Wraps(newest.WrappedBy) {
		return nil
	}
	brought := ring.NewDataKey(e.Project)
	if err := ring.Learn(e.Project, brought); err != nil {
		return err
	}
	under[e.Project] = brought.DataKey
	if _, opens := e.Fact.(*events.ProjectOpened); opens {
		e.Fact = brought
		return nil
	}
	opened := events.Event{Project: e.Project, Fact: brought, Admin: events.Admin{Actor: registryActor}.Plain()}
	*sealed = append(*sealed, opened)
	return ring.Seal(&(*sealed)[len(*sealed)-1], brought.DataKey)
}
