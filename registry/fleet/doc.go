// Package fleet is what the active registry knows of the verifiers, and the rules that make "confirmed" true: MEMBERS, GRANT,
// ACK and VERDICT of docs/protocol.md. It is pure: it has no clock, no I/O and no locks, so that a model can drive it
// through every order of events that the world may come up with.
//
// It promises that a grant never carries an older head than the newest durable one, that nobody who has not
// acknowledged a Seq is left out of its verdict unless the log says that it left, and that an instance shown twice
// is granted nothing more.
//
// It leaves leadership, durability and signatures to package registry, and what a grant allows to package verifier.
package fleet
