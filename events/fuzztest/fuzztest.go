// Package fuzztest holds what fuzz targets have in common. It makes that hostile input cannot take more memory than it is worth a thing
// that every one of them checks. What its readers make of the input is for each target to say.
package fuzztest

import (
	"runtime"
	"testing"
)

// Frugally has something done with so many bytes of somebody else's, and fails the test if more than 400 bytes were allocated for each of
// them, and a base beside: what a reader takes must follow from what it is sent, and not from what that announces. The base
// covers what else goes on in the process; nothing is 64 KiB, enough for the runtime itself.
func Frugally(t testing.TB, input, base int, do func()) {
	t.Helper()
	const each, least = 400, 64 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if used, most := after.TotalAlloc-before.TotalAlloc, each*uint64(input)+uint64(max(base, least)); used > most {
		t.Fatalf("%d bytes of input had %d allocated, more than %d", input, used, most)
	}
}

// Msgpack is a base for what is decoded by the msgpack package: of a string that is announced it makes room for up to 1 MB before it comes.
const Msgpack = 4 << 20
