// Package projections says what facts mean: it folds events into keys, deployments and the log's
// own charter (Evolve), and decides whether a key opens a deployment (Allow). Registry, verifier,
// admin credentials and audit all use these two, so that they can not disagree.
//
// It promises to be pure: no clock, no I/O, no context; time is passed in. It leaves storage to its
// subpackages, one per read model, and reading the log to Follow's callers.
package projections
