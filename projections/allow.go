package projections

import "github.com/keyfleet/keyfleet/events"

// Decision is the answer to a check. The zero Decision denies.
type Decision struct {
	Reason  Reason
	Key     events.KeyID // zero unless the presented key is one of ours, whether it opens or not
	Project string       // of the key
}

// Allowed reports whether the request may pass.
func (d Decision) Allowed() bool { return d.Reason == Allowed }

// Reason says why a check was decided as it was. Only Allowed lets anything pass. Reasons are for
// metrics, debug logs and audit; callers only ever see their Class.
type Reason uint8

// The reasons. Their order is not on any wire.
const (
	Undecided    Reason = iota // the zero value: nothing was decided, so nothing passes
	Allowed                    // the key opens the deployment
	Missing                    // no key was presented
	Malformed                  // the presented bytes cannot be a key: form or checksum
	Unknown                    // no living key has this digest
	RotatedOut                 // the secret before a rotation, its grace over
	KeyDisabled                // the key is disabled
	KeyExpired                 // the key's instant has come
	NotAttached                // the key is good, but does not open this deployment
	NoDeployment               // the key is good, but no such deployment is registered
	NotFresh                   // the verifier may not answer now: see its state
	BehindMinSeq               // the index did not reach min_seq in time
	Broken                     // the question could not be answered, such as for a failing disk
	reasonCount
)

var reasonNames = [reasonCount]string{
	"undecided", "allowed", "missing", "malformed", "unknown", "rotated_out", "disabled", "expired",
	"not_attached", "no_deployment", "not_fresh", "behind_min_seq", "broken",
}

// Reasons are all there are, for metrics that want to begin at zero.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

func (r Reason) String() string {
	if r >= reasonCount {
		return reasonNames[Undecided]
	}
	return reasonNames[r]
}

// MarshalText gives the reason's name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Class is what a caller may learn of a Reason.
type Class uint8

// The classes, each with the HTTP status that stands for it.
const (
	Unavailable     Class = iota // 503: the question could not be answered
	Pass                         // 200
	Unauthenticated              // 401: one answer for every cause, so that nothing can be probed
	Forbidden                    // 403: the key is good, the deployment is not open to it
)

// Class sorts the reason; what is not listed is Unavailable, which opens nothing.
func (r Reason) Class() Class {
	switch r {
	case Allowed:
		return Pass
	case Missing, Malformed, Unknown, RotatedOut, KeyDisabled, KeyExpired:
		return Unauthenticated
	case NotAttached, NoDeployment:
		return Forbidden
	default:
		return Unavailable
	}
}

// Allow decides whether the key k, presented by a secret of digest presented, opens the deployment at
// the instant now. The zero deployment stands for one that is not registered. Lifetimes are half-open: alive
// while now < ExpiresAt. That the log records an expiry closes the key as well, whatever now is: a clock
// that steps back revives nothing.
func Allow(k *Key, presented events.Digest, deployment events.DeploymentID, now events.Instant) Reason {
	switch {
	case !k.Exists():
		return Unknown
	case presented != k.Digest && (presented != k.Grace.Digest || k.Grace.Digest.IsZero()):
		return Unknown
	case presented != k.Digest && now >= k.Grace.Until:
		return RotatedOut
	default:
		alive := Alive{Disabled: k.Disabled, Expired: k.Expired, ExpiresAt: k.ExpiresAt}
		return alive.Allow(!deployment.IsZero(), k.AttachedTo(deployment), now)
	}
}

// Alive is what decides about a key whose present secret was shown: the part of Allow that needs no more of it.
type Alive struct {
	Disabled  bool
	Expired   bool // the log records that ExpiresAt came
	ExpiresAt events.Instant
}

// Allow is Allow's, for a deployment that is registered or not, and to which the key is attached or not.
func (a Alive) Allow(registered, attached bool, now events.Instant) Reason {
	switch {
	case a.Disabled:
		return KeyDisabled
	case a.Expired || now >= a.ExpiresAt:
		return KeyExpired
	case !registered:
		return NoDeployment
	case !attached:
		return NotAttached
	default:
		return Allowed
	}
}
