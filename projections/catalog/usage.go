package catalog

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/usage"
	"github.com/keyfleet/keyfleet/projections/store"
)

// Usage is how often a key was let in, by all verifiers. It is no part of the state: it comes from a stream beside the log, which
// forgets what is old, and is lost with the directory.
type Usage struct {
	Uses uint64
	Last events.Instant // 0: never
}

// UsagePlace is a place in the stream of usage. The zero place is before its beginning.
type UsagePlace struct {
	Stream int64 // when the stream was created: one that was made anew counts from 1 again
	Seq    uint64
}

// Usage finds how often a key was let in.
func (v *View) Usage(id events.KeyID) (u Usage, err error) {
	u, _, err = get[Usage](v, idKey(usageSpace, id))
	return u, err
}

// UsagePlace is behind the last batch that was added up.
func (c *Catalog) UsagePlace() (p UsagePlace, err error) {
	v := View{r: c.db}
	p, _, err = get[UsagePlace](&v, usagePlaceKey)
	return p, err
}

// PassUsage leaves out what stands at the place.
func (c *Catalog) PassUsage(at UsagePlace) error {
	t := tally{catalog: c}
	return t.commit(at)
}

// AddUsage adds a verifier's batch up, which stands at the place and was stored then. One that was added up before is passed over.
// Of keys that do not live, nothing is kept. One caller at a time makes progress; others go on beside it.
func (c *Catalog) AddUsage(verifier string, b *usage.Batch, at UsagePlace, stored time.Time) error {
	if err := c.store(); err != nil { // what was created may have been used
		return err
	}
	t := tally{catalog: c}
	fresh, err := t.note(verifier, b)
	if err != nil {
		return err
	}
	if !fresh {
		return t.commit(at)
	}
	for i := range b.Counts {
		if err := t.add(&b.Counts[i], events.InstantOf(stored)); err != nil {
			return err
		}
	}
	if err := t.commit(at); err != nil {
		return err
	}
	c.flushUsage(stored)
	return c.dropUsageOfTheDead(b)
}

// tally is a batch while it is added up.
type tally struct {
	catalog *Catalog
	writes  store.Writes
}

// runs is what is remembered of a verifier's newest runs, the newest first. It sends one batch after another, and so the number
// of a run's last one tells whether a batch is new.
type runs []struct {
	Run    usage.Run
	Number uint64
}

// A verifier is one run at a time; two machines that believe to be the same one are two.
const maxRuns = 4

// note reports whether the batch is a new one.
func (t *tally) note(verifier string, b *usage.Batch) (bool, error) {
	v, key := View{r: t.catalog.db}, nameKey(usageRunSpace, verifier, "")
	known, _, err := get[runs](&v, key)
	if err != nil {
		return false, err
	}
	for i := range known {
		if known[i].Run == b.Run {
			if b.Number <= known[i].Number {
				return false, nil
			}
			known[i].Number = b.Number
			return true, t.set(key, known)
		}
	}
	newest := make(runs, 1, maxRuns)
	newest[0].Run, newest[0].Number = b.Run, b.Number
	return true, t.set(key, append(newest, known[:min(len(known), maxRuns-1)]...))
}

// add takes no verifier's word for what is still to come.
func (t *tally) add(c *usage.Count, stored events.Instant) error {
	v := View{r: t.catalog.db}
	k, err := v.Key(c.Key)
	if err != nil || !k.Exists() {
		return err
	}
	u, err := v.Usage(c.Key)
	if err != nil {
		return err
	}
	u.Last = max(u.Last, min(c.Last, stored))
	if u.Uses += c.Uses; u.Uses < c.Uses {
		u.Uses = 1<<64 - 1
	}
	return t.set(idKey(usageSpace, c.Key), u)
}

func (t *tally) set(key []byte, value any) (err error) {
	enter(&t.writes, key, value, &err)
	return err
}

func (t *tally) commit(at UsagePlace) error {
	err := t.set(usagePlaceKey, at)
	if err == nil {
		err = t.catalog.db.Commit(&t.writes)
	}
	if err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	return nil
}

// dropUsageOfTheDead removes what stands for keys that were deleted while it was written: the deletion had nothing to remove then.
func (c *Catalog) dropUsageOfTheDead(b *usage.Batch) error {
	v := View{r: c.db}
	for i := range b.Counts {
		id := b.Counts[i].Key
		k, err := v.Key(id)
		if err == nil && !k.Exists() {
			err = c.db.Delete(idKey(usageSpace, id), pebble.NoSync)
		}
		if err != nil {
			return fmt.Errorf("write usage: %w", err)
		}
	}
	return nil
}

// usageFlush is how much of the stream a crash makes the catalog read again, at most: less than the stream remembers.
const usageFlush = time.Hour

func (c *Catalog) flushUsage(stored time.Time) {
	if stored.Sub(c.usageFlushed) >= usageFlush {
		c.usageFlushed = stored
		_, _ = c.db.AsyncFlush() // what a failing disk breaks is told by the next write
	}
}
