package catalog

import (
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// Dump is all that is stored.
func (c *Catalog) Dump() map[string]string {
	all := map[string]string{}
	if err := c.store(); err != nil {
		panic(err)
	}
	it, err := c.db.NewIter(&pebble.IterOptions{})
	if err != nil {
		panic(err)
	}
	for valid := it.First(); valid; valid = it.Next() {
		all[string(it.Key())] = string(it.Value())
	}
	if err := it.Close(); err != nil {
		panic(err)
	}
	return all
}

// StoreFormat makes it a catalog of another format, as far as it tells itself.
func (c *Catalog) StoreFormat(n int) error {
	data, err := marshal(meta{Format: n, Position: c.Position()})
	if err != nil {
		return err
	}
	return c.db.Set(metaKey, data, pebble.NoSync)
}

// Forget has the next Begin make the filters anew, or not.
func (c *Catalog) Forget(now bool) {
	c.unseen.spare = usualSpare
	if now {
		c.unseen.spare = math.MinInt32
	}
}
