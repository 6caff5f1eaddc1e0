//go:build !linux

package main

import (
	"errors"
	"time"
)

var errNoProc = errors.New("what processes use of the machine is read from /proc, which only Linux has")

func cpuTime(int) (time.Duration, error) { return 0, errNoProc }
func machineTimes() time.Duration        { return 0 }
func cpuName() string                    { return "unknown" }
func memoryGiB() float64                 { return 0 }

func resident(int) (int64, error) { return 0, errNoProc }
