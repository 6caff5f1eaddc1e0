// Package loadtest measures Keyfleet whole: real NATS servers that sync always, real indexes on disk, commands
// over TCP, checks at a verifier. Its benchmarks print what a promise costs: p50, p99 and max of what
// one caller waits for.
//
// It promises that every load is bounded in count and goes to loopback alone. It leaves the speed of
// single parts to the benchmarks beside them.
package loadtest
