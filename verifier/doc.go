// Package verifier answers "may this key open this deployment?" from a local index, without asking
// anybody. It follows the log, holds the lease that says how long the index counts as fresh, and refuses
// to answer once neither can be shown.
//
// It promises that a zero Answer denies; that nothing passes unless the gate of the protocol is open, which
// is decided anew in every check; that a key is dead at its instant by the later of the wall clock and the
// newest attested time; and that presented keys reach neither logs nor metrics. It leaves reading the log
// and asking for leases to the Source and the Uplink that it is given, and how a refusal is worded to its
// subpackages.
package verifier
