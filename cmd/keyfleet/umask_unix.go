//go:build unix

package main

import "syscall"

// restrictFileModes makes every file 0600 and every directory 0700 at most, also those that libraries make.
func restrictFileModes() { syscall.Umask(0o077) }
