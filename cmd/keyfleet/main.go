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
)

// version is set by the linker (see the Makefile).
var version = "devel"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}
