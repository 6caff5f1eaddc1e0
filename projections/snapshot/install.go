package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

var (
	// ErrNone: there is no snapshot that the index could go on from. The error says of each what is wrong with it.
	ErrNone = errors.New("there is no snapshot to install")
	// ErrCorrupt: an object is not what its name says.
	ErrCorrupt = errors.New("a table of the snapshot is damaged")
)

// Options of an Install.
type Options struct {
	Pinned []events.PublicKey // that may have signed
	// Staging is a directory for tables on their way, on the same disk as the index. What an interrupted Install left
	// there is not fetched again.
	Staging  string
	Progress func(done, total int64) // in bytes; may be nil; called by one goroutine at a time
}

// mostTried bounds how many manifests are looked at: a store full of forgeries costs no more.
const mostTried = 16

// Install fetches the newest snapshot that is newer than idx and of the same log, makes sure of all of it, and puts it in
// the place of what idx holds. Whoever follows the log into idx must have stopped, as keyindex.Index.Install says. It may
// be tried again after any error; what was fetched is kept. Errors wrap ErrNone, ErrCorrupt, an error of keyindex, or are
// those of the objects or the disk.
func Install(ctx context.Context, idx *keyindex.Index, objects Source, o Options) (Manifest, error) {
	m, err := Newest(ctx, objects, idx.Position(), o.Pinned...)
	if err != nil {
		return Manifest{}, err
	}
	f := fetch{objects: objects, dir: o.Staging, progress: o.Progress, total: m.Size()}
	tables, err := f.all(ctx, m.Tables)
	if err != nil {
		return Manifest{}, fmt.Errorf("fetch the snapshot at Seq %d: %w", m.Position.Seq, err)
	}
	if err := idx.Install(ctx, tables, m.Position, m.Digest); err != nil {
		return Manifest{}, fmt.Errorf("install the snapshot at Seq %d: %w", m.Position.Seq, err)
	}
	return m, os.RemoveAll(o.Staging)
}

// Newest gives the newest manifest that is sound and that an index at have could go on from. An error wraps ErrNone, or is
// one of the objects.
func Newest(ctx context.Context, objects Source, have events.Position, pinned ...events.PublicKey) (Manifest, error) {
	names, err := objects.List(ctx)
	if err != nil {
		return Manifest{}, err
	}
	wrong := []error{ErrNone}
	names = manifestNames(names)
	for _, name := range names[:min(len(names), mostTried)] {
		m, err := readManifest(ctx, objects, name, pinned)
		if err == nil {
			err = m.fits(have)
		}
		if err == nil {
			return m, nil
		}
		wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
	}
	return Manifest{}, errors.Join(wrong...)
}

// fits is asked before anything is fetched; keyindex asks again at the last moment.
func (m *Manifest) fits(have events.Position) error {
	switch p := m.Position; {
	case have.Seq > 0 && p.Incarnation != have.Incarnation:
		return fmt.Errorf("%w: the index is of %s, not of %s", events.ErrIncarnation, have.Incarnation, p.Incarnation)
	case p.Seq <= have.Seq:
		return fmt.Errorf("%w: at Seq %d, against %d", keyindex.ErrOutdated, have.Seq, p.Seq)
	case m.DigestVersion != keyindex.DigestVersion:
		return fmt.Errorf("its digest is of version %d, this binary counts version %d", m.DigestVersion, keyindex.DigestVersion)
	}
	return nil
}
