package keyindex

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/keyindex/front"
	"github.com/keyfleet/keyfleet/projections/seen"
	"github.com/keyfleet/keyfleet/projections/store"
)

// inFront is the front as readers have it. What it does not hold, the store is asked for.
type inFront struct {
	table    *front.Table
	projects []string // by the numbers that the table has for them
}

// filler is the front as the writer has it, or what knows in its place which digests are surely not stored. It is filled from the
// store, in the order of digests, beside readers and the writer: what lies behind next is shown to it by whoever changes it, and the
// rest is read later.
type filler struct {
	table    *front.Table // nil where there is no memory for one
	known    *seen.Filter // of digests; nil where there is one
	projects []string
	numbers  map[string]uint32
	next     events.Digest // the first that was not read yet
	atOnce   int           // records to read while the writer waits
	done     bool
	count    int          // of the digests that there are in all, read or not: about as many
	ids      *seen.Filter // of the keys that were read or changed
	renewal  *filler      // without a table, whose filters will take the place of these; nil mostly
	renewed  int          // what the filters had been shown when they were filled anew, or could not be
}

const (
	usualFront = 1 << 30
	fillAtOnce = 4096    // records to read while the writer waits, or twice as many as it has written last: else a replay would outrun it
	mostGone   = 1 << 20 // keys that filters may have been shown beyond twice as many as there are
	inAdvance  = 8       // places that the writer asks memory for, while it works on those before them
)

// startFront begins to fill a front for the store that was just opened.
func (idx *Index) startFront() {
	keys := storedKeys(idx.db)
	idx.startFilling(idx.opts.frontBytes(), keys, keys)
}

// frontBytes is what the front may take.
func (o *Options) frontBytes() int64 { return cmp.Or(o.FrontBytes, usualFront) }

// startFilling begins to fill a front of at most limit bytes with room for so many keys, of which there are count now. If there
// cannot be one, the store answers.
func (idx *Index) startFilling(limit int64, room, count int) {
	var err error
	if idx.fill, err = newFiller(limit, room, count); err != nil {
		idx.opts.Log.Warn("there is no memory for a front: checks are answered from disk and its cache", "error", err)
	}
	idx.fillBeside()
}

func (idx *Index) fillBeside() {
	ctx := idx.open
	idx.filling.Go(func() {
		for ctx.Err() == nil && idx.fillOn(ctx) {
		}
	})
}

// newFiller makes one that is whole, but for a table if there is an error.
func newFiller(limit int64, room, count int) (f *filler, err error) {
	f = &filler{numbers: map[string]uint32{}, atOnce: fillAtOnce, count: count, ids: seen.New(count)}
	if limit > 0 {
		if f.table, err = front.New(limit, room); err == nil {
			return f, nil
		}
	}
	f.table, f.known = nil, seen.New(count)
	return f, err
}

// storedKeys is about how many there are, so that the front need not grow while it is filled. Each key has two records.
func storedKeys(db *store.DB) (n int) {
	levels, err := db.SSTables(pebble.WithProperties())
	if err != nil {
		return 0
	}
	for _, level := range levels {
		for _, table := range level {
			n += int(table.Properties.NumEntries-table.Properties.NumDeletions) / 2
		}
	}
	return n
}

// fillOn reads some more of the store. It reports whether there is more to do.
func (idx *Index) fillOn(ctx context.Context) bool {
	idx.apply.Lock()
	defer idx.apply.Unlock()
	switch {
	case idx.fill == nil || ctx.Err() != nil:
		return false
	case idx.fill.renewal != nil:
		return idx.renewOn()
	case idx.fill.done:
		return false
	}
	err := idx.fill.read(idx.db, idx.view.Load().deployments)
	if err != nil {
		idx.loseFront(err)
	} else if idx.fill.done && idx.fill.table != nil {
		idx.front.Store(&inFront{idx.fill.table, slices.Clone(idx.fill.projects)})
	}
	return idx.fill != nil && !idx.fill.done
}

// shown is what the larger filter was shown, about.
func (f *filler) shown() int {
	if f.known == nil {
		return f.ids.Len()
	}
	return max(f.ids.Len(), f.known.Len())
}

// mostlyGone reports whether most of what the filters were shown is stored no more: they would grow for good.
func (f *filler) mostlyGone() bool {
	return f.done && f.renewal == nil && f.shown() > 2*max(f.count, f.renewed)+mostGone
}

// renew begins to fill the filters anew, beside readers and the writer, who goes by the old ones until that is done.
func (idx *Index) renew() {
	f := idx.fill
	f.renewal = &filler{ids: seen.New(f.count)}
	if f.table == nil {
		f.renewal.known = seen.New(f.count)
	}
	idx.fillBeside()
}

// renewOn reads some more of the store for that. It reports whether there is more to do. If the store cannot be read, the filters
// stay as they are until they have grown as much again: what is damaged, a reader will find.
func (idx *Index) renewOn() bool {
	f, r := idx.fill, idx.fill.renewal
	r.atOnce = f.atOnce
	err := r.read(idx.db, idx.view.Load().deployments)
	if err == nil && !r.done {
		return true
	}
	if err == nil {
		f.ids, f.known = r.ids, r.known
	} else {
		idx.opts.Log.Warn("filters of the index are not filled anew: they take more memory than they need", "error", err)
	}
	f.renewal, f.renewed = nil, f.shown()
	return false
}

// loseFront leaves everything to the store. What is damaged there, a reader will find. A front that could only not grow, for which
// there have to be two for a moment, is filled anew in all the memory that it may have.
func (idx *Index) loseFront(err error) {
	f, limit := idx.fill, idx.opts.frontBytes()
	idx.front.Store(nil)
	idx.fill = nil
	const fromDisk = "checks are answered from disk and its cache"
	full := errors.Is(err, front.ErrFull)
	switch {
	case f.table == nil: // the store could not be read, and would not be the next time
		idx.opts.Log.Warn("changes are slow from here on: what the index does not have is looked for on disk", "error", err)
	case full && !f.table.Full():
		idx.opts.Log.Info("the front is filled anew, in all its memory: until then "+fromDisk, "bytes", limit)
		count := f.count
		runtime.GC() // what it had is given back by the collector
		idx.startFilling(limit, int(limit), count)
	case full:
		idx.opts.Log.Warn("there are more keys than the front has memory for: " + fromDisk)
		idx.startFilling(0, 0, f.count)
	default:
		idx.opts.Log.Warn("the front is lost: "+fromDisk, "error", err)
		idx.startFilling(0, 0, f.count)
	}
}

func (f *filler) read(db *store.DB, d *Deployments) (err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: digestKey(f.next), UpperBound: []byte{digestSpace + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	valid := it.First()
	for n := 0; valid && n < f.atOnce; n++ {
		digest := events.Digest(it.Key()[1:])
		k, _, err := decodeEntryAt(digest, it.Value())
		if err == nil {
			f.ids.Add(k.ID[:])
			err = f.show(digest, &k, d)
		}
		if err != nil {
			return err
		}
		valid = it.Next()
	}
	if valid {
		copy(f.next[:], it.Key()[1:])
	}
	f.done = !valid
	return it.Error()
}

// expect says that the event is about to be folded in.
func (f *filler) expect(e *events.Event) {
	if created, is := e.Fact.(*events.Created); is && f != nil && f.table != nil {
		f.table.Expect(&created.Digest)
	}
}

// lacks reports whether surely nothing is stored under the digest: what most changes ask for, and the store finds slowly.
func (f *filler) lacks(digest events.Digest) bool {
	if f == nil || !f.done && bytes.Compare(digest[:], f.next[:]) >= 0 {
		return false
	}
	if f.table == nil {
		return !f.known.MayHave(digest[:])
	}
	return f.table.Look(&digest, &front.Entry{}) == front.Absent
}

// lacksKey reports whether surely no key of the id is stored.
func (f *filler) lacksKey(id events.KeyID) bool { return f != nil && f.done && !f.ids.MayHave(id[:]) }

// show puts what the digest leads to into the table. An alias is the zero Key.
func (f *filler) show(digest events.Digest, k *projections.Key, d *Deployments) error {
	if f.table == nil {
		f.know(digest)
		return nil
	}
	e := front.Entry{Key: k.ID, Disabled: k.Disabled, Expired: k.Expired, ExpiresAt: k.ExpiresAt}
	if k.Digest != digest || !f.number(&e, k, d) {
		return f.table.Leave(&digest, k.ID)
	}
	return f.table.Put(&digest, &e)
}

func (f *filler) know(digest events.Digest) {
	if f.known != nil {
		f.known.Add(digest[:])
	}
}

// drop takes out what led to a key.
func (f *filler) drop(digest *events.Digest) {
	if f.table != nil { // known may go on to say that it may be stored
		f.table.Drop(digest)
	}
}

// number fills in what the entry has numbers for. It reports whether the key fits.
func (f *filler) number(e *front.Entry, k *projections.Key, d *Deployments) bool {
	at := 0
	for _, id := range k.Deployments {
		one := d.byID[id]
		if one == nil {
			continue // it was removed, and never comes back: another of its name has another id
		}
		if one.number == 0 || at == front.MaxDeployments {
			return false
		}
		e.Deployments[at] = one.number
		at++
	}
	number, known := f.numbers[k.Project]
	if !known {
		if len(f.projects) == front.MaxProjects {
			return false
		}
		number = uint32(len(f.projects))
		f.numbers[k.Project], f.projects = number, append(f.projects, k.Project)
	}
	e.Project = number
	return true
}

// showInFront shows the front what a change has written. Whoever is answered from it once Apply has returned sees the change.
func (idx *Index) showInFront(c *change) {
	f := idx.fill
	if f == nil {
		return
	}
	f.atOnce = max(fillAtOnce, 2*len(c.places.all))
	projects := len(f.projects)
	for _, k := range c.keys.all {
		f.ids.Add(k.id[:])
	}
	f.renewal.add(c)
	if err := f.makeRoom(c.places.all); err != nil {
		idx.loseFront(err)
		return
	}
	for i, p := range c.places.all {
		if ahead := i + inAdvance; ahead < len(c.places.all) && f.table != nil {
			f.table.Expect(&c.places.all[ahead].digest)
		}
		if !f.done && bytes.Compare(p.digest[:], f.next[:]) >= 0 {
			continue // to be read yet
		}
		if p.owner.IsZero() {
			f.drop(&p.digest)
			continue
		}
		if err := f.show(p.digest, &p.to.Key, c.next.deployments); err != nil {
			idx.loseFront(err)
			return
		}
	}
	if f.done && len(f.projects) != projects { // there are none without a table
		idx.front.Store(&inFront{f.table, slices.Clone(f.projects)})
	}
	if f.mostlyGone() {
		idx.renew()
	}
}

// add shows a renewal what a change has written, whether it is to be read yet or was.
func (f *filler) add(c *change) {
	if f == nil {
		return
	}
	for _, k := range c.keys.all {
		f.ids.Add(k.id[:])
	}
	for _, p := range c.places.all {
		if !p.owner.IsZero() {
			f.know(p.digest)
		}
	}
}

// makeRoom also counts what is to be read yet. Digests stand in the table in their order, and while only the first of them do, it
// is no emptier there than it will be everywhere.
func (f *filler) makeRoom(places []*place) error {
	for _, p := range places {
		switch had, has := p.stored != nil, !p.owner.IsZero(); {
		case has && !had:
			f.count++
		case had && !has:
			f.count--
		}
	}
	if f.table == nil {
		return nil
	}
	return f.table.MakeRoom(f.count)
}

// Expect says that Decide is about to be called with the digest. Two thirds of what Decide takes is waiting for memory, and what
// the caller does in between comes for nothing.
func (idx *Index) Expect(digest *events.Digest) {
	if f := idx.front.Load(); f != nil {
		f.table.Expect(digest)
	}
}

// Decide says whether the key that the digest leads to opens the deployment, nil for one that is not registered, at the instant
// now: as projections.Allow does for what Find gives, mostly without asking the store.
func (idx *Index) Decide(digest events.Digest, d *Deployment, now events.Instant) (projections.Decision, error) {
	if f := idx.front.Load(); f != nil {
		if decided, ok := f.decide(&digest, d, now); ok {
			return decided, nil
		}
	}
	k, err := idx.Find(digest)
	if err != nil {
		return projections.Decision{}, err
	}
	var deployment events.DeploymentID
	if d != nil {
		deployment = d.ID
	}
	return projections.Decision{Reason: projections.Allow(&k, digest, deployment, now), Key: k.ID, Project: k.Project}, nil
}

func (f *inFront) decide(digest *events.Digest, d *Deployment, now events.Instant) (projections.Decision, bool) {
	var e front.Entry
	switch f.table.Look(digest, &e) {
	case front.Absent:
		return projections.Decision{Reason: projections.Unknown}, true
	case front.Ask:
		return projections.Decision{}, false
	case front.Found:
	}
	if int(e.Project) >= len(f.projects) { // it came this moment
		return projections.Decision{}, false
	}
	attached := false
	if d != nil {
		if d.number == 0 {
			return projections.Decision{}, false
		}
		attached = slices.Contains(e.Deployments[:], d.number)
	}
	alive := projections.Alive{Disabled: e.Disabled, Expired: e.Expired, ExpiresAt: e.ExpiresAt}
	return projections.Decision{Reason: alive.Allow(d != nil, attached, now), Key: e.Key, Project: f.projects[e.Project]}, true
}
