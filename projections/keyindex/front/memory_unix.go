//go:build unix

package front

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allocate gives zeroed memory that the collector does not know of.
func allocate(size int) ([]slot, error) {
	memory, err := unix.Mmap(-1, 0, size*slotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory for the front: %w", err)
	}
	adviseHugePages(memory)
	return unsafe.Slice((*slot)(unsafe.Pointer(unsafe.SliceData(memory))), size), nil
}

// release gives it back. Nobody can be reading it: it is called when its slots are out of reach.
func release(all []slot) {
	memory := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(all))), len(all)*slotBytes)
	_ = unix.Munmap(memory)
}
