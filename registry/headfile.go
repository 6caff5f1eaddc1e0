package registry

import (
	"encoding/json"
	"fmt"

	"github.com/keyfleet/keyfleet/events/slot"
)

// HeadFile is a HeadKeeper in a file of its own.
type HeadFile struct {
	file *slot.File
	kept SignedHead
	has  bool
}

// OpenHeadFile opens the file, or makes it. One process may have it open at a time.
func OpenHeadFile(path string) (*HeadFile, error) {
	file, record, err := slot.Open(path)
	if err != nil {
		return nil, err
	}
	h := &HeadFile{file: file, has: record != nil}
	if h.has {
		if err := json.Unmarshal(record, &h.kept); err != nil {
			return nil, fmt.Errorf("%s holds no head: %w", path, err)
		}
	}
	return h, nil
}

// Kept gives the last head kept, if there is one.
func (h *HeadFile) Kept() (SignedHead, bool) { return h.kept, h.has }

// Keep keeps the contract of HeadKeeper.
func (h *HeadFile) Keep(s SignedHead) error {
	record, err := json.Marshal(s)
	if err == nil {
		err = h.file.Put(record)
	}
	if err == nil {
		err = h.file.Sync()
	}
	if err == nil {
		h.kept, h.has = s, true
	}
	return err
}

// Close lets go of the file.
func (h *HeadFile) Close() error { return h.file.Close() }
