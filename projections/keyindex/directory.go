package keyindex

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The files of an index's directory.
const (
	formatFile  = "FORMAT"  // says what this directory is, in a line that people can read
	corruptFile = "CORRUPT" // says that the store proved damaged, and how
	lockFile    = "LOCK"
	storeDir    = "pebble"
	buildingDir = "building" // a store in the making; of no use to another run
	incomingDir = "incoming" // a whole store, which the next Open puts in the place of the one in use
)

// directory is what surrounds the store: its lock, its format, and the mark of corruption.
type directory struct {
	fs   vfs.FS
	path string
	log  *slog.Logger
	lock io.Closer

	mu     sync.Mutex
	damage error       // found since the store was last emptied
	hear   func(error) // nil while the index opens: it then mends the damage itself
}

func openDirectory(path string, opts Options) (*directory, error) {
	d := &directory{fs: opts.FS, path: path, log: opts.Log}
	if err := d.fs.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := d.identify(); err != nil {
		return nil, err
	}
	var err error
	if d.lock, err = d.fs.Lock(d.file(lockFile)); err != nil {
		return nil, fmt.Errorf("another verifier has it open; stop that one, or give another directory: %w", err)
	}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// identify refuses what is not an index of this format, before anything is written into it.
func (d *directory) identify() error {
	found, err := d.read(formatFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		names, err := d.fs.List(d.path)
		if err == nil && slices.ContainsFunc(names, func(name string) bool { return name != lockFile }) {
			return errors.New("the directory holds files, but no index; give an empty one")
		}
		return err
	case err != nil:
		return err
	case string(found) == "":
		return nil // the machine stopped between the file's creation and its first bytes
	case formatOf(found) < 1 || formatOf(found) > formatNumber:
		return fmt.Errorf("it is a %.40q, this binary reads %q; use the binary that wrote it, "+
			"or give another directory and the index is rebuilt from the log", found, formatLine())
	}
	return nil
}

func formatLine() string { return fmt.Sprintf("%s%d\n", formatName, formatNumber) }

// formatOf is 0 for what is no index.
func formatOf(line []byte) int {
	var number int
	if _, err := fmt.Sscanf(string(line), formatName+"%d\n", &number); err != nil {
		return 0
	}
	return number
}

func (d *directory) prepare() error {
	if d.fs == vfs.Default {
		if err := os.Chmod(d.path, 0o700); err != nil { //nolint:gosec // G302: a directory is entered
			return err
		}
	}
	found, err := d.read(formatFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if older := formatOf(found); older != formatNumber {
		if older > 0 {
			d.log.Warn("the index is of an older format: beginning an empty one", "dir", d.path, "format", older)
		}
		if err := errors.Join(d.fs.RemoveAll(d.file(incomingDir)), d.empty()); err != nil {
			return err
		}
		if err := d.write(formatFile, formatLine()); err != nil { // last: it vouches for what is there
			return err
		}
	}
	return nil
}

// prepareStore does what was left to be done before the store is opened.
func (d *directory) prepareStore() error {
	if err := d.fs.RemoveAll(d.file(buildingDir)); err != nil {
		return err
	}
	if err := d.keepPromise(); err != nil {
		return err
	}
	why, err := d.read(corruptFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d.log.Warn("the index is to be rebuilt: beginning an empty one", "dir", d.path, "reason", string(why))
	return d.empty()
}

// promise makes what was built the next store. Behind it there is no way back, only forward.
func (d *directory) promise() error {
	err := d.fs.Rename(d.file(buildingDir), d.file(incomingDir))
	if err == nil {
		err = d.syncDir()
	}
	if err != nil {
		return errors.Join(err, d.fs.RemoveAll(d.file(incomingDir)))
	}
	return nil
}

// keepPromise puts the incoming store, if there is one, in the place of the other. The incoming one goes last: stopped
// in between, it is done again.
func (d *directory) keepPromise() error {
	switch _, err := d.fs.Stat(d.file(incomingDir)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := d.empty(); err != nil {
		return err
	}
	if err := d.fs.Rename(d.file(incomingDir), d.store()); err != nil {
		return err
	}
	return d.syncDir()
}

// empty removes the store, and then the mark: stopped in between, it is done again.
func (d *directory) empty() error {
	if err := d.fs.RemoveAll(d.store()); err != nil {
		return err
	}
	if err := d.fs.RemoveAll(d.file(corruptFile)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.damage = nil
	return d.syncDir()
}

// reportCorruption marks the directory, so that the next Open begins empty, and tells the owner, once.
func (d *directory) reportCorruption(damage error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.damage != nil {
		return
	}
	d.damage = damage
	err := d.write(corruptFile, damage.Error()+"\n")
	d.log.Error("the index is corrupt and has to be rebuilt from the log", "dir", d.path, "error", damage, "marked", err == nil)
	if d.hear != nil {
		d.hear(damage)
	}
}

func (d *directory) found() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.damage
}

// listen begins to tell of damage, and tells what came before it.
func (d *directory) listen(hear func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hear = hear; hear != nil && d.damage != nil {
		hear(d.damage)
	}
}

func (d *directory) close() error { return d.lock.Close() }

func (d *directory) store() string           { return d.file(storeDir) }
func (d *directory) file(name string) string { return d.fs.PathJoin(d.path, name) }

func (d *directory) read(name string) (content []byte, err error) {
	f, err := d.fs.Open(d.file(name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, 4096))
}

// write makes the file durable before it returns.
func (d *directory) write(name, content string) error {
	f, err := d.fs.Create(d.file(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(content))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return d.syncDir()
}

func (d *directory) syncDir() error {
	f, err := d.fs.OpenDir(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
