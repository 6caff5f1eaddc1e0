//go:build amd64 || arm64

package front

// prefetch has the processor bring a slot's cache line near without waiting for it. A plain load would not do: what comes
// behind it can run ahead of it for a few hundred instructions alone.
//
//go:noescape
func prefetch(s *slot)
