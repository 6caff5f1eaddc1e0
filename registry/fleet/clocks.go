package fleet

import (
	"math"
	"slices"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// clockFresh is for how long it counts what a verifier said of its clock: some renewals may be lost.
const clockFresh = 10 * time.Second

// Clocks is what the verifiers' clocks say of the registry's (rule CLOCK).
type Clocks struct {
	Members int           // of the fleet, heard or not
	Heard   int           // verifiers that said lately what time it is
	Ahead   time.Duration // of the registry's clock before the median of theirs; of two in the middle, before the farther one
}

// Clocks holds own, the registry's clock at now, against what the verifiers said with their renewals. Each verifier counts once,
// however many instances it has: who holds one site's credentials has one voice. What was said is older than its arrival by
// the time that it was on its way, and the registry's clock seems ahead by that.
func (f *Fleet) Clocks(own events.Instant, now time.Duration) Clocks {
	newest := make(map[string]*seat, len(f.seats))
	for id, s := range f.seats {
		name := f.charter.Members[id].Verifier
		if was := newest[name]; s.saysTime(now) && (was == nil || was.heardAt < s.heardAt) {
			newest[name] = s
		}
	}
	ahead := make([]time.Duration, 0, len(newest))
	for _, s := range newest {
		ahead = append(ahead, behind(own, s.said.Wall, now-s.heardAt))
	}
	slices.Sort(ahead)
	c := Clocks{Members: len(f.seats), Heard: len(ahead)}
	if c.Heard > 0 {
		low, high := ahead[(c.Heard-1)/2], ahead[c.Heard/2]
		if c.Ahead = high; low.Abs() > high.Abs() {
			c.Ahead = low
		}
	}
	return c
}

// saysTime reports whether the instance lately said what time it is.
func (s *seat) saysTime(now time.Duration) bool {
	return s.heard && !s.torn && saidTime(s.said.Wall) && now-s.heardAt <= clockFresh
}

func saidTime(wall events.Instant) bool { return wall != 0 && !wall.IsNever() }

// behind is by how much a clock that said so a while ago is behind own. Clocks that are further apart than a Duration can tell
// are as far apart as it can.
func behind(own, said events.Instant, ago time.Duration) time.Duration {
	const most = math.MaxInt64 / events.Instant(time.Millisecond)
	theirs := said + events.Instant(ago.Milliseconds())
	return time.Duration(min(max(own-theirs, -most), most)) * time.Millisecond
}

// ClockBehind is by how much the member's clock is behind own, as far as its last renewal told.
func (r *Report) ClockBehind(own events.Instant) (d time.Duration, known bool) {
	if !r.Heard || !saidTime(r.Said.Wall) {
		return 0, false
	}
	return behind(own, r.Said.Wall, r.Ago), true
}
