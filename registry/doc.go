// Package registry decides what becomes of commands: Decide is pure and turns a command into events
// or a Refusal; Service puts the events of many commands into one commit, appends it to the log,
// and answers only once it is durable. Of all registries on a log one is active at a time.
//
// It promises what rules TERM, APPEND, REPLY and COMMANDS of docs/protocol.md say. It declares the
// log and the election that it needs, and leaves transports to its subpackages natsapi and httpapi.
package registry
