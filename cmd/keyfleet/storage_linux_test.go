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

// mountDisk gives a disk that is as large as the text says.
func mountDisk(t *testing.T, size string) string {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	disk := t.TempDir()
	require.NoError(t, syscall.Mount("keyfleet-test", disk, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, 0)) })
	return disk
}

// A disk that is really full, but for what is reserved.
func TestOnAFullDiskKeysAreRevokedAndNotCreated(t *testing.T) {
	disk := mountDisk(t, "256m")
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

// A disk without any room: what cannot be recorded is not acknowledged, checks go on, the log says what to do, and after
// that everything that was acknowledged is there.
func TestAfterADiskWithoutRoom(t *testing.T) {
	disk := mountDisk(t, "64m")
	data := filepath.Join(disk, "data")
	dev := startDev(t, data)
	secret, _ := dev.newKey(t, "living", "echo-model")
	filler := filepath.Join(disk, "filler")
	require.ErrorIs(t, os.WriteFile(filler, make([]byte, 64<<20), 0o600), syscall.ENOSPC)

	disabled, verbs := false, []string{"disable", "enable"}
	require.Eventually(t, func() bool {
		verb := verbs[0]
		_, status := dev.keyfleet(t, "", "keys", verb, "living", "--timeout", "1s")
		if status == statusDone {
			disabled, verbs = verb == "disable", []string{verbs[1], verb}
		}
		return status == statusUnavailable
	}, time.Minute, time.Millisecond)
	unsure, _ := get(t, http.MethodGet, dev.Check+"/v1/check/demo/echo-model", secret, "")
	require.NotEqual(t, http.StatusServiceUnavailable, unsure, "a verifier does not need the disk")
	require.Contains(t, dev.stderr.String(), "make room and start it again")

	require.NoError(t, os.Remove(filler))
	dev.kill()
	dev = startDev(t, data)
	out, _ := dev.keyfleet(t, "", "keys", "show", "living", "--json")
	isDisabled := strings.Contains(out, `"status":"disabled"`)
	if isDisabled != disabled { // the last one may have been recorded without an answer
		require.Equal(t, verbs[0] == "disable", isDisabled, out)
	}
	_, status := dev.keyfleet(t, "", "keys", "delete", "living", "--wait", "confirmed")
	require.Equal(t, statusDone, status)
	_, status = dev.keyfleet(t, secret, "check", "--deployment", "echo-model")
	require.Equal(t, statusRefused, status)
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
