package keyindex

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

func pebbleOptions(opts Options, onCorruption func(error)) *pebble.Options {
	if opts.CacheBytes == 0 {
		opts.CacheBytes = 256 << 20
	}
	if opts.MemTableBytes == 0 {
		opts.MemTableBytes = 4 << 20
	}
	o := &pebble.Options{
		Cache:              pebble.NewCache(opts.CacheBytes),
		DisableWAL:         true, // the event log is the write-ahead log
		FormatMajorVersion: pebble.FormatNewest,
		FS:                 opts.FS,
		Logger:             pebbleLog{opts.Log},
		MemTableSize:       opts.MemTableBytes,
		// The default ends the process, and with it the answer to whom the damage does not concern.
		EventListener: &pebble.EventListener{
			DataCorruption:  func(info pebble.DataCorruptionInfo) { onCorruption(fmt.Errorf("%s", info)) },
			BackgroundError: func(err error) { opts.Log.Error("pebble: background error", "error", err) },
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// pebbleLog keeps Pebble's chatter for debugging.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble's own state is then in doubt.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	panic("pebble cannot go on: " + fmt.Sprintf(format, args...))
}
