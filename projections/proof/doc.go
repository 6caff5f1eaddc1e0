// Package proof makes evidence of the log. The events' bytes as they stand in the log are the leaves of a Merkle tree
// (RFC 6962), in order: event Seq is leaf Seq-1. One root stands for the whole log. A Checkpoint is a root that was
// signed; Inclusion and Growth prove with a few hashes that an event is under a root, and that one root grew out of
// another; a Replay holds a copy of the whole log against what was signed; an archive is such a copy in a file.
//
// It promises that what it accepts was signed, whole and unchanged, and that it needs no trust in where the bytes came
// from: every input is hostile, and memory is bounded by the format's limits and not by what an input announces. The text forms
// are those of C2SP (signed-note, tlog-checkpoint, tlog-proof), so that other people's tools read them; they and the archive's
// never change (docs/decisions/0007-checkpoints-and-archives.md).
//
// It leaves reading the stream to events/eventlog, what events mean to package projections, and which keys to trust to its
// callers.
package proof
