package verifier

import (
	"slices"

	"github.com/keyfleet/keyfleet/events"
)

// MaxLogKeys is how many keys can be pinned: what is learnt is kept beside them in a record of little room.
const MaxLogKeys = 8

// trust is which keys a verifier believes grants and snapshots from. It begins with those that are pinned. What the log says of
// its keys is learnt once a believed key has signed a head that covers it: so the log's key can be changed under a running
// fleet, and a pinned key that was retired is believed no more. What was learnt is kept with the session: it outlives the
// process, and a reboot goes back to what is pinned.
type trust struct {
	Pinned []events.PublicKey `json:"pinned"`
	Keys   []events.PublicKey `json:"keys"`
}

// goOn is with what was learnt, unless other keys are pinned now.
func (t *trust) goOn(pinned []events.PublicKey) *trust {
	if t == nil || !slices.Equal(t.Pinned, pinned) {
		return &trust{Pinned: pinned, Keys: pinned}
	}
	return t
}
