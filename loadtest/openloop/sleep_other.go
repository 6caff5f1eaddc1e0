//go:build !linux

package openloop

import "time"

func newSleep() (func(time.Duration), error) { return time.Sleep, nil }
