package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lockName marks a directory as Keyfleet's, and is locked while a process works in it.
const lockName = "lock"

// claimDirectory makes dir this process's own, with mode 0700, until release.
func claimDirectory(dir string) (release func() error, err error) {
	restrictFileModes()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, flagError("data", "%v", err)
	}
	if err := checkOurs(dir); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // G302: it is a directory
		return nil, flagError("data", "%v", err)
	}
	lock, err := vfs.Default.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, unavailableError("another keyfleet works in %s; stop it, or give this one a directory of its own with --data (%v)", dir, err)
	}
	return lock.Close, nil
}

// checkOurs keeps us from settling among somebody's files, whose directory would then be closed to others.
func checkOurs(dir string) error {
	_, err := os.Stat(filepath.Join(dir, lockName))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return flagError("data", "%v", err)
	}
	if len(entries) > 0 {
		return flagError("data", "%s holds other files (%s); name an empty directory, or one that is not there yet", dir, entries[0].Name())
	}
	return nil
}

// exists reports whether something is at the path.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", path, err)
	}
	return true, nil
}
