package fleet

import (
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// mayRebuild lets a member whose index proved wrong begin a new one, a few at a time: one in a PoP, and a fiftieth of the fleet
// (rule INDEX). It has leave until it answers again, for some time.
func (f *Fleet) mayRebuild(id events.InstanceID, s *seat, now time.Duration) bool {
	const share = 50
	switch {
	case !s.said.WantsToRebuild:
		return s.rebuilding && s.said.State == stateStarting
	case s.rebuilding && now-s.leaveAt < leaveFor:
		return true
	case s.rebuilding:
		s.barredUntil = now + leaveFor // it cannot: others first
	}
	busy := 0
	for other, o := range f.seats {
		if other == id || !o.rebuilding || now-o.heardAt > leaveFor {
			continue
		}
		if f.charter.Members[other].PoP == f.charter.Members[id].PoP {
			return false
		}
		busy++
	}
	if now < s.barredUntil || busy >= max(1, len(f.seats)/share) {
		return false
	}
	s.leaveAt = now
	return true
}

// leaveFor is how long a member has leave to begin a new index.
const leaveFor = 10 * time.Minute

// stateStarting is what a verifier says of itself that is catching up.
const stateStarting = "starting"

// content is what an index says it holds.
type content struct {
	seq     events.Seq
	version int
}

// diverging are the members whose index holds something else, at the same Seq, than those of most others do. Where there is
// no majority it is all of them.
func (f *Fleet) diverging() map[events.InstanceID]bool {
	votes := map[content]map[events.Digest]int{}
	for _, s := range f.seats {
		if s.said.IndexDigest.IsZero() {
			continue
		}
		at := content{s.said.Seq, s.said.DigestVersion}
		if votes[at] == nil {
			votes[at] = map[events.Digest]int{}
		}
		votes[at][s.said.IndexDigest]++
	}
	found := map[events.InstanceID]bool{}
	for id, s := range f.seats {
		cast := votes[content{s.said.Seq, s.said.DigestVersion}]
		own := cast[s.said.IndexDigest]
		for digest, others := range cast {
			if digest != s.said.IndexDigest && others >= own && own > 0 {
				found[id] = true
			}
		}
	}
	return found
}
