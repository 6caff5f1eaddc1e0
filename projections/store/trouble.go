package store

import (
	"log/slog"
	"sync"
	"time"
)

// Pebble tries at once again what went wrong, however often: on a full disk thousands of times a second.
const (
	pause     = 100 * time.Millisecond // between two attempts. Pebble's lock is held: readers do not notice, writers wait
	tellEvery = 10 * time.Second
)

// trouble is what goes wrong in a database's background.
type trouble struct {
	log    *slog.Logger
	newest chan error // for one who waits

	mu    sync.Mutex
	told  time.Time
	since int // failures that nothing was said about
}

func newTrouble(log *slog.Logger) *trouble { return &trouble{log: log, newest: make(chan error, 1)} }

func (t *trouble) hear(err error) {
	t.tell(err)
	select {
	case t.newest <- err:
	default:
	}
	time.Sleep(pause)
}

// tell logs the first failure, and then a line now and again for all.
func (t *trouble) tell(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since++
	if time.Since(t.told) < tellEvery {
		return
	}
	t.log.Error("the database cannot write; it tries again", "error", err.Error(), "failures", t.since) // not its stack
	t.told, t.since = time.Now(), 0
}

func (t *trouble) forget() {
	select {
	case <-t.newest: //nolint:errcheck // an older one
	default:
	}
}
