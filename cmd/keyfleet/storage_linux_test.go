package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A disk that is really full, but for what is reserved.
func TestOnAFullDiskKeysAreRevokedAndNotCreated(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	disk := t.TempDir()
	require.NoError(t, syscall.Mount("keyfleet-test", disk, "tmpfs", 0, "size=256m"))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, 0)) })
	dev := startDev(t, filepath.Join(disk, "data"))
	secret, _ := dev.newKey(t, "doomed", "echo-model")
	filler := filepath.Join(disk, "filler")
	require.NoError(t, fill(filler, disk, 0.93))

	create := func(name string) int {
		_, status := dev.keyfleet(t, "", "keys", "create", name, "--timeout", "1s")
		return status
	}
	full := func() bool {
		_, metrics := get(t, http.MethodGet, dev.Admin+"/metrics", "", "")
		return strings.Contains(metrics, "\nkeyfleet_registry_storage_full 1\n")
	}
	require.Eventually(t, full, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, statusUnavailable, create("more"))
	_, status := dev.keyfleet(t, "", "keys", "delete", "doomed", "--wait", "confirmed")
	require.Equal(t, statusDone, status)
	_, status = dev.keyfleet(t, secret, "check", "--deployment", "echo-model")
	require.Equal(t, statusRefused, status)

	require.NoError(t, os.Remove(filler))
	require.Eventually(t, func() bool { return !full() }, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, statusDone, create("more"))
}

// fill writes a file that leaves the disk as full as part.
func fill(file, disk string, part float64) error {
	var is syscall.Statfs_t
	if err := syscall.Statfs(disk, &is); err != nil {
		return err
	}
	free := float64(is.Bfree) - (1-part)*float64(is.Blocks)
	return os.WriteFile(file, make([]byte, int64(free)*is.Bsize), 0o600)
}
