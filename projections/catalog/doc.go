// Package catalog is the registry's view of the log, in Pebble: keys and deployments whole, the names
// and digests in use, the calendar of what falls due, the command ids that took effect, and where in the log
// each key's history stands.
//
// It promises that its content is a function of the log up to its Position alone, moved by whole
// commits, and that a Txn shows decisions the state as it will be once earlier
// commands of the same commit are durable. It leaves all decisions to package registry. It keeps no
// write-ahead log: what a crash takes is folded in again from the event log.
package catalog
