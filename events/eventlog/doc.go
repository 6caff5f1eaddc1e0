// Package eventlog keeps Keyfleet's log on JetStream: Init creates it once, Append adds a commit, and
// Follow reads commits in order, from anywhere and for as long as it is asked to.
//
// It promises that an Append that returned nil is durable and stands exactly where the caller
// decided that it should, that an Append whose answer was lost is settled by writing the same bytes
// again and never by guessing, and that Follow hands on only commits that follow each other by Seq,
// incarnation and chain hash, whatever the server, a mirror or an operator did to the stream. It relies
// on the stream's settings and on servers that sync every write, so Open refuses others.
//
// It leaves what a commit says to package events, what it means to package projections, and who may
// append at all to the registry's election.
package eventlog
