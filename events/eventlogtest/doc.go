// Package eventlogtest is what tests of anything that reads or writes the log are built from: Memory, a log without a
// server whose appends can be made to fail in every way that matters; NATS servers and clusters inside the test process;
// and TestLog, the conformance suite that Memory and JetStream both pass, so that a test against one says
// something about the other.
//
// It promises that whatever it starts ends with the test. It leaves durability to real disks: Memory forgets, and killing a
// process is no power loss.
package eventlogtest
