package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyfleet/keyfleet/events"
)

// Source is where snapshots are read from: one place for one log. It need not be trusted.
type Source interface {
	// List names every object, in no order, and maybe some that are gone.
	List(ctx context.Context) ([]string, error)
	// Get reads an object. An error may come while reading.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
}

// Objects is where snapshots are kept.
type Objects interface {
	Source
	// Put is durable once it returns; until then nobody sees the object. An object of that name is replaced.
	Put(ctx context.Context, name string, content io.Reader) error
	// Delete of what is not there is no error.
	Delete(ctx context.Context, name string) error
}

const (
	manifestPrefix = "manifest-"
	tablePrefix    = "table-"
)

// name sorts manifests by age. The time is that of the log, which never goes back, and goes on when the log begins anew.
func (m *Manifest) name() string {
	return fmt.Sprintf("%s%016d-%020d", manifestPrefix, m.Position.Time, m.Position.Seq)
}

func (t *Table) name() string { return tablePrefix + t.Digest.String() }

// manifestNames gives the names of manifests, newest first.
func manifestNames(names []string) []string {
	found := namesWith(manifestPrefix, names)
	slices.Sort(found)
	slices.Reverse(found)
	return found
}

func tableNames(names []string) []string { return namesWith(tablePrefix, names) }

func namesWith(prefix string, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// readManifest reads and verifies one. An error that is not about the manifest itself is one of the store.
func readManifest(ctx context.Context, objects Source, name string, pinned []events.PublicKey) (m Manifest, err error) {
	r, err := objects.Get(ctx, name)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	signed, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return Manifest{}, err
	}
	if m, err = Open(signed, pinned...); err != nil {
		return Manifest{}, err
	}
	if m.name() != name {
		return Manifest{}, fmt.Errorf("%w: it is that of %s", events.ErrMalformed, m.name())
	}
	return m, nil
}

func isOfManifest(err error) bool {
	return errors.Is(err, ErrNotSigned) || errors.Is(err, events.ErrMalformed)
}
