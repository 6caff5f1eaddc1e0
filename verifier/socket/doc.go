// Package socket offers a verifier's checks over a Unix socket, for sidecars on the same machine, in a binary protocol
// that fits on this page. A client in Go is part of it.
//
// A request is a frame, numbers being big-endian:
//
//	length       2 bytes, of all that follows, at most 8,192
//	version      1 byte, 1
//	incarnation 16 bytes, of the log that min_seq belongs to; zeroes for any
//	min_seq      8 bytes, the least Seq to answer from; 0 for any
//	project      1 byte of length, and so many bytes
//	deployment   1 byte of length, and so many bytes
//	key          the rest
//
// Its answer is 32 bytes:
//
//	length       2 bytes, 30
//	outcome      1 byte: 0 cannot be answered now, 1 allowed, 2 the key is not valid, 3 it does not open this deployment
//	flags        1 byte: 1 for an answer from past the lease, where the operator chose that
//	key id      16 bytes, of a key that is allowed; else zeroes
//	seq          8 bytes, the state that it was decided from is at least as new
//	staleness    4 bytes, milliseconds since that state was known to be the newest
//
// Requests may be sent without waiting for answers, which come in order; one that waits for min_seq holds up those behind
// it. What is no such frame ends the connection. Which connections to let in is left to the socket's file mode.
//
// It promises as little about refused keys as HTTP does: one outcome for all causes. It leaves the decision to the
// verifier.
package socket
