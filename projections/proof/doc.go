// Package proof is the log as a Merkle tree (RFC 6962): its leaves are the events' bytes as they stand in the log, in order, so that
// event Seq is leaf Seq-1. One root stands for the whole log, and whoever holds an old root can be shown that nothing
// before it was changed.
//
// It promises nothing about who signed a root: that is for the signers in it and in events/head. It leaves what events mean
// to package projections.
package proof
