package catalog

import (
	"fmt"

	"github.com/keyfleet/keyfleet/events"
)

// DataKey is what a project's later admin parts are sealed under, as the log has it: wrapped. The events without a project
// are one. The zero DataKey was never brought.
type DataKey struct {
	Project string
	events.ProjectOpened
}

// DataKeyOf finds the newest data key of a project.
func (v *View) DataKeyOf(project string) (k DataKey, err error) {
	id, _, err := get[string](v, sealedUnderKey(project))
	if err != nil || id == "" {
		return k, err
	}
	k, _, err = get[DataKey](v, dataKeyKey(id))
	return k, err
}

func sealedUnderKey(project string) []byte { return append([]byte{sealedUnderSpace}, project...) }

func dataKeyKey(id string) []byte { return append([]byte{dataKeySpace}, id...) }

// learnDataKeys fills the ring with what earlier commits brought. Without their sealing keys the log cannot be folded on.
func (c *Catalog) learnDataKeys() error {
	v := View{r: c.db}
	return v.scan([]byte{dataKeySpace}, func(_, value []byte) (bool, error) {
		var k DataKey
		if err := unmarshal(value, &k); err != nil {
			return false, err
		}
		if !c.ring.Unwraps(k.WrappedBy) {
			return false, fmt.Errorf("%w: data key %s is wrapped by the sealing key %s", events.ErrSealed, k.DataKey, k.WrappedBy)
		}
		return true, c.ring.Learn(k.Project, &k.ProjectOpened)
	})
}
