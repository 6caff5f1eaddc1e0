// Package gateway is a reverse proxy in front of inference servers: it checks the key of each request in
// process, and forwards what may pass to the upstream of the deployment that the request names.
//
// It promises that nothing is forwarded whose key does not open the deployment, that what is under way is cut
// within a second of the verifier applying a revocation or an expiry, that the key stays behind, and that
// upstreams can trust the Keyfleet headers they see. Answers stream as they come; callers that dawdle or fail
// too often are bounded. It leaves retries to callers, and the decision to the verifier.
package gateway
