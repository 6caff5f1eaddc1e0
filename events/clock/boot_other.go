//go:build !linux

package clock

import "time"

var started = time.Now()

// sinceBoot stops in suspend on systems whose monotonic clock does: fit for development alone.
func sinceBoot(now time.Time) time.Duration { return now.Sub(started) }
