//go:build !unix

package main

// restrictFileModes has nothing to do where files have no modes.
func restrictFileModes() {}
