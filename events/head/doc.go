// Package head is what a registry vouches for, and what verifiers tell it: signed grants, which carry the head of the
// log, and the renewals and acknowledgements that verifiers send.
//
// It promises that a Grant opens only with a key that the reader has pinned, and exactly as it was signed: the form
// has one byte string for every grant and one grant for every byte string. A reader that holds a grant can prove to
// anybody who knows the log's key what the registry vouched for (rules GRANT and ROLLBACK of docs/protocol.md).
//
// It leaves to package verifier when a grant may be used, and to registry/fleet when one is given.
package head
