package verifier

import (
	"bytes"
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/usage"
)

// backlog is what was counted and is not known to be stored at the hub. A batch that was sent once is sent again as it is, so that
// whoever adds up can tell.
type backlog struct {
	run     usage.Run
	number  uint64 // of the newest batch
	sent    *usage.Batch
	waiting map[events.KeyID]usage.Count
}

// maxBacklog keys are kept through an outage of the hub.
const maxBacklog = 100_000

// add reports whether there was room.
func (b *backlog) add(key events.KeyID, count uint64, last events.Instant) bool {
	c, known := b.waiting[key]
	if !known && len(b.waiting) >= maxBacklog {
		return false
	}
	if b.waiting == nil {
		b.waiting = map[events.KeyID]usage.Count{}
	}
	b.waiting[key] = usage.Count{Key: key, Uses: min(c.Uses+count, usage.MaxUses), Last: max(c.Last, last)}
	return true
}

// next is the batch to be sent now; nil when there is nothing left. at is how far the log is applied.
func (b *backlog) next(at events.Position) *usage.Batch {
	if b.sent != nil || len(b.waiting) == 0 || at.Seq == 0 {
		return b.sent
	}
	b.number++
	b.sent = &usage.Batch{Incarnation: at.Incarnation, Seq: at.Seq, Run: b.run, Number: b.number}
	for key, c := range b.waiting {
		if len(b.sent.Counts) == usage.MaxCounts {
			break
		}
		b.sent.Counts = append(b.sent.Counts, c)
		delete(b.waiting, key)
	}
	if len(b.waiting) == 0 {
		b.waiting = nil // a map never shrinks
	}
	slices.SortFunc(b.sent.Counts, func(x, y usage.Count) int { return bytes.Compare(x.Key[:], y.Key[:]) })
	return b.sent
}

// stored says that the batch sent last is where it belongs.
func (b *backlog) stored() { b.sent = nil }
