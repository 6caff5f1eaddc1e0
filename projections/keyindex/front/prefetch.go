//go:build amd64 || arm64

package front

import "unsafe"

// Prefetch has the processor bring the cache line at an address near without waiting for it. A plain load would not do: what comes
// behind it can run ahead of it for a few hundred instructions alone.
//
//go:noescape
func Prefetch(at unsafe.Pointer)
