package verifier

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyfleet/keyfleet/events/slot"
)

func placeOf(file *slot.File, dir string) (place, error) {
	var fsys unix.Statfs_t
	if err := unix.Statfs(dir, &fsys); err != nil {
		return place{}, err
	}
	owner, err := ownerOf(os.Stat(dir))
	if err != nil {
		return place{}, err
	}
	if owner.Uid != uint32(os.Geteuid()) || owner.Mode&0o077 != 0 {
		return place{}, fmt.Errorf("it is open to other users; remove it, or name another directory")
	}
	inode, err := ownerOf(file.Stat())
	if err != nil || fsys.Type != unix.TMPFS_MAGIC {
		return place{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return place{Device: inode.Dev, Inode: inode.Ino, Boot: strings.TrimSpace(string(boot))}, err
}

func ownerOf(info os.FileInfo, err error) (*syscall.Stat_t, error) {
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("%s: the system does not say whose it is", info.Name())
	}
	return stat, nil
}
