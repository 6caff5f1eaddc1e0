package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/keyfleet/keyfleet/events/slot"
)

// HeadFile is a HeadKeeper in two files: what was noted is not synced, and a loss of power must not take what was signed with it.
type HeadFile struct {
	signed, noted *slot.File

	mu         sync.Mutex
	lastSigned SignedHead
	newest     SignedHead
	has        bool
}

// OpenHeadFile opens signed-head and noted-head in dir, or makes them. One process may have them open at a time.
func OpenHeadFile(dir string) (h *HeadFile, err error) {
	h = &HeadFile{}
	if h.signed, err = h.open(filepath.Join(dir, "signed-head")); err != nil {
		return nil, err
	}
	h.lastSigned = h.newest
	if h.noted, err = h.open(filepath.Join(dir, "noted-head")); err != nil {
		return nil, errors.Join(err, h.signed.Close())
	}
	return h, nil
}

// open takes in the file's record, if it is newer than what was found so far.
func (h *HeadFile) open(path string) (*slot.File, error) {
	file, record, err := slot.Open(path)
	if err != nil || record == nil {
		return file, err
	}
	var found SignedHead
	if err := json.Unmarshal(record, &found); err != nil {
		return nil, errors.Join(fmt.Errorf("%s holds no head: %w", path, err), file.Close())
	}
	h.rise(found)
	return file, nil
}

func (h *HeadFile) rise(s SignedHead) {
	if !h.has || s.Incarnation != h.newest.Incarnation || s.Seq > h.newest.Seq {
		h.newest, h.has = s, true
	}
}

// Kept keeps the contract of HeadKeeper.
func (h *HeadFile) Kept() (SignedHead, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.newest, h.has
}

// Keep keeps the contract of HeadKeeper.
func (h *HeadFile) Keep(s SignedHead) error {
	h.mu.Lock()
	kept := h.lastSigned == s
	h.mu.Unlock()
	if kept {
		return nil
	}
	if err := put(h.signed, s); err != nil {
		return err
	}
	if err := h.signed.Sync(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastSigned = s
	h.rise(s)
	return nil
}

// Note keeps the contract of HeadKeeper.
func (h *HeadFile) Note(s SignedHead) error {
	if err := put(h.noted, s); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rise(s)
	return nil
}

func put(file *slot.File, s SignedHead) error {
	record, err := json.Marshal(s)
	if err == nil {
		err = file.Put(record)
	}
	return err
}

// Close lets go of the files.
func (h *HeadFile) Close() error { return errors.Join(h.signed.Close(), h.noted.Close()) }
