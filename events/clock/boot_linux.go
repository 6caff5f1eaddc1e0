package clock

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// started is where monotonic times are counted from.
var started = time.Now()

// anchor is one moment on three clocks. The kernel tells the time since boot through a system call alone, which takes
// longer than all else that a check does with time; the wall clock and the monotonic one are read without. While the
// machine runs, the time since boot passes as the monotonic clock does. A suspension moves it, and moves the wall clock
// by as much in the same instant: so whoever finds that the wall clock has moved against the monotonic one has to ask.
type anchor struct {
	wall int64 // nanoseconds since 1970
	mono time.Duration
	boot time.Duration
}

var anchored atomic.Pointer[anchor]

const (
	slack  = time.Millisecond // by which clocks that are read one after another may differ
	reread = time.Second      // after which the kernel is asked in any case
)

// sinceBoot is the time since boot at the moment that now was read.
func sinceBoot(now time.Time) time.Duration {
	wall, mono := now.UnixNano(), now.Sub(started)
	a := anchored.Load()
	if a != nil && mono < a.mono+reread && near(time.Duration(wall-a.wall), mono-a.mono) {
		return a.bootAt(mono)
	}
	boot := askKernel()
	if near(time.Since(started), mono) { // else too much has passed between the two clocks
		anchored.Store(a.renewed(wall, mono, boot))
	}
	return boot
}

func (a *anchor) bootAt(mono time.Duration) time.Duration { return a.boot + mono - a.mono }

// renewed is the anchor of another moment. It stays in step with the one before unless there was a suspension in between:
// the time since boot must not go back by what passed between reading one clock and another.
func (a *anchor) renewed(wall int64, mono, boot time.Duration) *anchor {
	if a != nil && near(a.bootAt(mono), boot) {
		boot = a.bootAt(mono)
	}
	return &anchor{wall, mono, boot}
}

func near(a, b time.Duration) bool { return a-b < slack && b-a < slack }

func askKernel() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("CLOCK_BOOTTIME, there since Linux 2.6.39, cannot be read: " + err.Error())
	}
	return time.Duration(t.Nano())
}
