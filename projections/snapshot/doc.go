// Package snapshot carries a verifier's index from one place to another, so that a new PoP need not
// read the log from its beginning. A snapshot is a set of tables, objects that are named by their
// SHA-256, and a signed manifest that names them, the position in the log and the digest of the index.
//
// It promises that what is installed was signed by a pinned key, comes to the digest that was signed
// (counted from what was stored, not from what was sent), is of the same log and newer than what it
// replaces, and that a crash at any moment leaves the old index or the new one (rule SNAPSHOT of
// docs/protocol.md). It promises that no object is deleted that a manifest in use names.
//
// It leaves to its callers where objects are kept, who may sign, and whether an index is fresh enough
// to be asked: the log is followed on from a snapshot, and the gate is the same as after a replay.
package snapshot
