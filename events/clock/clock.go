// Package clock tells the two times that Keyfleet's promises rest on: the wall clock, which decides
// whether a key has expired, and the time since boot, which decides whether a lease has lapsed.
//
// It promises that Elapsed never steps and never stops while the machine is suspended, as a
// monotonic clock would. It leaves to its callers how far either may be trusted.
package clock

import (
	"sync"
	"time"
)

// Clock is what everything that depends on time is given.
type Clock interface {
	// Now is the wall clock. It may step either way.
	Now() time.Time
	// Elapsed is the time since some fixed point of this boot, suspend included.
	Elapsed() time.Duration
	// Both is Now and Elapsed of one moment.
	Both() (time.Time, time.Duration)
}

// System is the machine's own clock.
type System struct{}

// Now is the wall clock.
func (System) Now() time.Time { return time.Now() }

// Elapsed is the time since boot.
func (System) Elapsed() time.Duration { return sinceBoot(time.Now()) }

// Both looks at the clock once.
func (System) Both() (time.Time, time.Duration) {
	now := time.Now()
	return now, sinceBoot(now)
}

// Manual is a clock for tests that moves only when it is told to.
type Manual struct {
	mu      sync.Mutex
	now     time.Time
	elapsed time.Duration
}

// NewManual gives a clock that stands at now.
func NewManual(now time.Time) *Manual { return &Manual{now: now} }

// Now is the wall clock.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Elapsed is the sum of all that Advance was given.
func (m *Manual) Elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.elapsed
}

// Both is Now and Elapsed.
func (m *Manual) Both() (time.Time, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now, m.elapsed
}

// Advance lets time pass on both clocks.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
	m.elapsed += d
}

// Step sets the wall clock alone, as an operator or NTP may.
func (m *Manual) Step(to time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = to
}
