// Command keyfleet is all of Keyfleet in one binary: the servers (registry, verifier, and dev, which is
// both with everything they need) and the client that people and scripts use. Each noun of the
// command line has a file of its own; this folder wires parts together and decides nothing.
//
// It promises that a secret is read from standard input and written to standard output alone: never
// taken as an argument, logged or sent. Exit statuses are 0 done, 1 refused, 2 usage, and 3 unavailable or
// recorded but not confirmed.
package main

import (
	"context"
	"os"
	"runtime"
)

// version is set by the linker (see the Makefile).
var version = "devel"

// ballast is counted as heap and never touched, so that it costs no memory. The collector runs when the heap has grown
// by as much as was left of it the last time: without ballast, for a server with a few MiB, ten times a second.
const ballast = 64 << 20 // bytes, and as much may wait to be collected

func main() {
	heavy := make([]byte, ballast)
	status := run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	runtime.KeepAlive(heavy)
	os.Exit(status)
}
