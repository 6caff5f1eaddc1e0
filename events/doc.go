// Package events holds Keyfleet's nouns and everything about them that is forever: ids, names and
// limits, the event types of every schema, and the bytes of commits and events as they stand in
// the log. A commit that was ever written decodes forever; the golden files under testdata hold
// each schema to that.
//
// It promises that decoding is total: any input gives a value or an error, never a panic, and
// never an allocation that the input's own length does not justify. It leaves what a fact means
// to package projections, and how commits reach disks to package eventlog.
package events
