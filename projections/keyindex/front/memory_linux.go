package front

import "golang.org/x/sys/unix"

// adviseHugePages asks for pages of 2 MiB: a look is then one miss of the cache, not one more of the page table's.
func adviseHugePages(memory []byte) { _ = unix.Madvise(memory, unix.MADV_HUGEPAGE) }
