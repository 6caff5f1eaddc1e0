// Package keyindex is the verifier's view of the log: which key has a digest, which deployment has a
// name, and how far the log was applied. It holds the edge part of events alone, so that a stolen disk
// opens nothing and names nobody.
//
// It promises that what it stores is a function of the prefix of the log that Position names, also after
// kill -9 or power loss: events and position are written in one batch, without a write-ahead log, so that
// an interrupted run only leaves a shorter prefix. It promises that nothing of a misfitting event, or of
// the entries that came with it, is applied.
//
// A digest of all that is stored is kept with the position, in the same batch (rule INDEX of
// docs/protocol.md). Verifiers that have come equally far compare theirs, and Scrub holds it against
// what is really stored.
//
// It leaves to its callers whether it is fresh enough to be asked, and what an answer means to
// projections.Allow.
package keyindex
