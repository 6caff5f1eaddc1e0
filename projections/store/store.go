// Package store opens the Pebble databases that projections keep.
//
// It promises that one lives with a disk that fails: writing is tried again at a bearable pace, told of in a few lines,
// and given up by Flush, so that whoever wants to end can. A database here keeps no write-ahead log: what it loses is read
// from the event log again. What is written together goes to Pebble in order. It leaves what is stored, and what damage means,
// to the projections.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a database. CacheBytes and MemTableBytes are needed.
type Options struct {
	CacheBytes    int64        // of blocks that were read
	MemTableBytes uint64       // of what is not on disk yet, before it is written there
	Unsorted      int          // so many of those may lie on disk as they came; default 4. More are quicker to write and slower to read
	FS            vfs.FS       // default: the operating system's
	Log           *slog.Logger // default: discarded

	// OnDamage hears of tables that are not as they were written; default: the process ends.
	OnDamage func(error)
}

// DB is a Pebble database.
type DB struct {
	*pebble.DB
	trouble *trouble
}

// Open opens the database in dir, or begins an empty one there. Errors may wrap ErrDamaged.
func Open(dir string, opts Options) (*DB, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	t := newTrouble(opts.Log)
	o := &pebble.Options{
		CacheSize:          opts.CacheBytes,
		DisableWAL:         true,
		EventListener:      &pebble.EventListener{BackgroundError: t.hear},
		FormatMajorVersion: pebble.FormatNewest,
		FS:                 opts.FS,
		Logger:             logger{opts.Log},
		MemTableSize:       opts.MemTableBytes,
	}
	if opts.OnDamage != nil {
		o.EventListener.DataCorruption = func(info pebble.DataCorruptionInfo) { opts.OnDamage(fmt.Errorf("%s", info)) }
	}
	if opts.Unsorted > 0 {
		o.L0CompactionThreshold, o.L0StopWritesThreshold = opts.Unsorted, 3*opts.Unsorted // as far apart as Pebble's own
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	switch {
	case err == nil:
		return &DB{db, t}, nil
	case isDamage(err):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	default:
		return nil, err
	}
}

// ErrDamaged says that a database cannot be opened, and never will be: a file is gone, or not what was written.
var ErrDamaged = errors.New("the database is damaged")

func isDamage(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, pebble.ErrDBNotPristine) ||
		strings.Contains(err.Error(), "object size mismatch") // Pebble has no other name for it
}

// Flush makes all that was written durable, or says why the disk does not take it: Pebble would wait until it does.
func (db *DB) Flush() error {
	db.trouble.forget()
	flushed, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case err := <-db.trouble.newest:
		return fmt.Errorf("the disk does not take what is to be written: %w", err)
	}
}
