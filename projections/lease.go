package projections

import (
	"fmt"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// LeaseSetting names the setting that says how long a grant lasts: a duration as time.Duration prints it.
const LeaseSetting = "lease"

// The bounds of a lease. A shorter one would lapse between two renewals.
const (
	DefaultLease  = 10 * time.Minute
	ShortestLease = 2 * time.Second
	LongestLease  = 24 * time.Hour
)

// CheckLease says what a lease has to be.
func CheckLease(length time.Duration) error {
	if length < ShortestLease || length > LongestLease || length%time.Millisecond != 0 {
		return fmt.Errorf("a lease is %s to %s, in whole milliseconds, not %s", ShortestLease, LongestLease, length)
	}
	return nil
}

// Lease is how long a grant lasts: Length, and before it was set at ChangedAt, up to Before.
type Lease struct {
	Length    time.Duration
	Before    time.Duration
	ChangedAt events.Instant
}

// settled is how long after the commit that changed the lease was decided it was certainly durable, and nobody granted the
// lease before any more.
const settled = time.Hour

// Longest is the longest lease that a grant in use may have: grants of before a change may still be. now is 0 where it is
// not known.
func (l Lease) Longest(now events.Instant) time.Duration {
	over := l.ChangedAt + events.Instant((Fence(l.Before) + settled).Milliseconds())
	if now == 0 || now < over {
		return max(l.Length, l.Before)
	}
	return l.Length
}

// Fence is how long after it was given a grant of the lease cannot be in use any more, whatever clocks do within 1%.
func Fence(lease time.Duration) time.Duration { return lease + lease/100 + time.Second }

func (l *Lease) change(value string, at events.Instant) error {
	length, err := time.ParseDuration(value)
	if err == nil {
		err = CheckLease(length)
	}
	if err != nil {
		return fmt.Errorf("%w: a lease of %q", ErrMisfit, value)
	}
	*l = Lease{Length: length, Before: l.Longest(at), ChangedAt: at}
	return nil
}
