package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfleet/keyfleet/projections/store"
)

// damageFile says that what is stored proved damaged. It is empty: the log of the process has told how.
const damageFile = "CORRUPT"

var (
	errMarked = errors.New("an earlier run has found it damaged")
	errOlder  = errors.New("it was written by an older binary")
)

// openOrBeginAnew throws a catalog away that is damaged, or of an older format. All of it is read from the log again, but for
// receipts, and for what the stream of uses does not have any more.
func openOrBeginAnew(dir string, opts Options) (*Catalog, error) {
	if err := opts.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	why := errMarked
	found, err := marked(dir, opts.FS)
	if err != nil {
		return nil, err
	}
	if !found {
		c, err := open(dir, opts)
		if !isDamage(err) && !errors.Is(err, errOlder) {
			return c, err
		}
		why = err
	}
	opts.Log.Warn("the catalog is made anew from the log", "dir", dir, "why", why.Error())
	if err := empty(dir, opts.FS); err != nil {
		return nil, errors.Join(why, err)
	}
	return open(dir, opts)
}

func isDamage(err error) bool {
	return errors.Is(err, store.ErrDamaged) || pebble.IsCorruptionError(err)
}

func marked(dir string, disk vfs.FS) (bool, error) {
	_, err := disk.Stat(disk.PathJoin(dir, damageFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// mark has the next Open begin anew.
func mark(dir string, disk vfs.FS) error {
	f, err := disk.Create(disk.PathJoin(dir, damageFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), syncDir(dir, disk))
}

// marking tells of the first damage. Pebble meets it again and again.
func (o *Options) marking(dir string) func(error) {
	var once sync.Once
	return func(damage error) {
		once.Do(func() {
			err := mark(dir, o.FS)
			o.Log.Error("the catalog is damaged: the next start makes it anew from the log", "dir", dir, "error", damage.Error(), "marked", err == nil)
			o.OnDamage(damage)
		})
	}
}

// empty removes everything, and the mark last: who is interrupted begins again.
func empty(dir string, disk vfs.FS) error {
	if err := mark(dir, disk); err != nil {
		return err
	}
	names, err := disk.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != damageFile {
			err = errors.Join(err, disk.RemoveAll(disk.PathJoin(dir, name)))
		}
	}
	if err = errors.Join(err, syncDir(dir, disk)); err != nil {
		return fmt.Errorf("empty it: %w", err)
	}
	return errors.Join(disk.RemoveAll(disk.PathJoin(dir, damageFile)), syncDir(dir, disk))
}

func syncDir(dir string, disk vfs.FS) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
