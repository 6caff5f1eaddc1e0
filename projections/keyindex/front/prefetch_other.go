//go:build !amd64 && !arm64

package front

func prefetch(*slot) {}
