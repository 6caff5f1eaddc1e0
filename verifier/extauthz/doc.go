// Package extauthz offers a verifier's checks as Envoy's external authorization, version 3, over gRPC.
//
// It promises callers the same answers as checks over HTTP, headers and bodies included; that the key is taken off
// what Envoy forwards, and that key id, project and Seq are there as dynamic metadata. What a request is to open is said by
// Envoy's configuration alone, in the context extensions project and deployment: callers cannot choose it. It leaves the
// decision to the verifier.
package extauthz
