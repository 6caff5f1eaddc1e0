// Package httpcheck offers a verifier's checks over HTTP, as what a proxy in front of an inference server
// asks for each request, and the verifier's health and metrics on a listener of their own.
//
// It promises that every refusal of a key is answered with one and the same body and headers, whatever the
// cause, so that nothing can be probed; that every answer may not be cached and carries a request id; and
// that request bodies are never read. It leaves the decision, and whether it may be given now, to the
// verifier.
package httpcheck
