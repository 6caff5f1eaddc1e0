package events

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Instant is a point in time: milliseconds since the Unix epoch, UTC. Key lifetimes are half-open:
// a key that expires at T is alive while now < T. The zero Instant is 1970, so an expiry that
// was never set is long past: the safe zero value.
type Instant int64

// Never is later than every instant: a key that expires Never does not expire.
const Never Instant = math.MaxInt64

// The range of instants that may be written: those that RFC 3339 has a text for.
var (
	firstInstant = InstantOf(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC))
	lastInstant  = InstantOf(time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC))
)

// InstantOf drops what is finer than a millisecond, towards the past: nothing lives longer for it.
func InstantOf(t time.Time) Instant { return Instant(t.UnixMilli()) }

// Time is the instant as a time.Time in UTC. Never has none: ask IsNever first.
func (i Instant) Time() time.Time { return time.UnixMilli(int64(i)).UTC() }

// IsNever reports whether i is Never.
func (i Instant) IsNever() bool { return i == Never }

func (i Instant) String() string {
	if i.IsNever() {
		return "never"
	}
	return i.Time().Format("2006-01-02T15:04:05.999Z07:00")
}

// MarshalText gives RFC 3339, or "never".
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads what ParseInstant reads.
func (i *Instant) UnmarshalText(text []byte) (err error) {
	*i, err = ParseInstant(string(text))
	return err
}

// ErrInstant is wrapped by every error of ParseInstant.
var ErrInstant = errors.New("not an instant")

// ParseInstant reads an RFC 3339 time, a date (00:00 UTC of it) or the word never.
func ParseInstant(s string) (Instant, error) {
	if s == "never" {
		return Never, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		i := InstantOf(t)
		if i < firstInstant || i > lastInstant {
			return 0, fmt.Errorf("%w: %q lies outside the years 0000 to 9999", ErrInstant, s)
		}
		return i, nil
	}
	return 0, fmt.Errorf(
		"%w: %q; give a date (2027-01-31, meaning 00:00 UTC), an RFC 3339 time (2027-01-31T12:00:00Z) or never",
		ErrInstant, s)
}
