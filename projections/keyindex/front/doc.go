// Package front is a table in memory of what decides about most keys: a digest's owner, whether it is alive and which
// deployments it opens, in one cache line. It stands before an index on disk, so that a check costs one memory access.
//
// It promises that a reader sees each entry as one writer put it, whole, and as soon as Put or Drop has returned; that it never
// takes more memory than it was given, beyond which it says so and is to be given up; and that what it says is absent is
// absent. What does not fit into a slot it does not hold: it says that the index has to be asked.
//
// Readers take no lock and write nothing: each slot has a version that is odd while it is written (a seqlock; H.-J. Boehm,
// "Can Seqlocks Get Along With Programming Language Memory Models?", MSPC 2012). Every word is accessed atomically. The
// memory is not the collector's: there is nothing in it to scan, and large pages serve it best.
//
// Slots are found by the first 16 bytes of a digest. Two digests of different keys that share them are left to the index;
// for anyone to present a secret that shares them with a key of another would take 2^128 trials.
package front
