package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/keyfleet/keyfleet/events"
)

// atOnce is how many tables are fetched at a time: one waits for the network while another waits for the disk.
const atOnce = 4

// fetch brings tables into a directory.
type fetch struct {
	objects  Source
	dir      string
	progress func(done, total int64)
	total    int64

	mu   sync.Mutex
	done int64
}

// all gives the files of the tables, durable and verified. The first error ends it.
func (f *fetch) all(ctx context.Context, tables []Table) (paths []string, err error) {
	if err := f.prepare(tables); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *Table)
	var fetchers sync.WaitGroup
	for range atOnce {
		fetchers.Go(func() {
			for t := range next {
				if err := f.table(ctx, t); err != nil {
					cancel(fmt.Errorf("%s: %w", t.name(), err)) // the first one counts
				}
			}
		})
	}
	for i := range tables {
		paths = append(paths, f.path(&tables[i]))
		select {
		case next <- &tables[i]:
		case <-ctx.Done():
		}
	}
	close(next)
	fetchers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return paths, flushDirectory(f.dir)
}

func (f *fetch) path(t *Table) string { return filepath.Join(f.dir, t.name()) }

const partSuffix = ".part"

// prepare makes the directory, and removes from it what these tables have no use for.
func (f *fetch) prepare(tables []Table) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range tables {
		wanted[tables[i].name()] = true
	}
	found, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, file := range found {
		if strings.HasPrefix(file.Name(), tablePrefix) && !wanted[file.Name()] {
			if err := os.Remove(filepath.Join(f.dir, file.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// table fetches one, unless it is there.
func (f *fetch) table(ctx context.Context, t *Table) error {
	if f.holds(t) {
		f.advance(t.Size)
		return nil
	}
	r, err := f.objects.Get(ctx, t.name())
	if err != nil {
		return err
	}
	err = f.write(f.path(t)+partSuffix, io.TeeReader(r, progressed{f}), t)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	return os.Rename(f.path(t)+partSuffix, f.path(t))
}

// holds does not trust a file by its name: the power may have gone before it was written out.
func (f *fetch) holds(t *Table) bool {
	file, err := os.Open(f.path(t))
	if err != nil {
		return false
	}
	err = errors.Join(copyTable(io.Discard, file, t), file.Sync(), file.Close())
	return err == nil
}

func (f *fetch) write(path string, r io.Reader, t *Table) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copyTable(file, r, t), file.Sync(), file.Close())
}

// copyTable copies no more than the table has bytes, and fails unless they are the table's.
func copyTable(w io.Writer, r io.Reader, t *Table) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(r, t.Size+1))
	switch {
	case err != nil:
		return err
	case n != t.Size:
		return fmt.Errorf("%w: it has not %d bytes", ErrCorrupt, t.Size)
	case events.Digest(sum.Sum(nil)) != t.Digest:
		return fmt.Errorf("%w: its SHA-256 is %x", ErrCorrupt, sum.Sum(nil))
	}
	return nil
}

// progressed counts what passes.
type progressed struct{ f *fetch }

func (p progressed) Write(b []byte) (int, error) {
	p.f.advance(int64(len(b)))
	return len(b), nil
}

func (f *fetch) advance(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done += n
	if f.progress != nil {
		f.progress(f.done, f.total)
	}
}

func flushDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
