// Package console is the web console: pages made on the server, with one small script for what is live and for secrets, which
// are generated in the browser where it allows that, so that only their digests are sent.
//
// It promises that it works without any other site, that no page runs a script that is not the console's own, that a
// session ends with its admin key, and that no page reaches a project that the key does not cover. What commands mean it
// leaves to package registry.
package console
