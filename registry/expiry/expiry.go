// Package expiry decides which ends of lifetimes are to be recorded now: keys whose instant has come, and
// secrets whose grace after a rotation is over. Verifiers refuse both by their own clocks; the
// events are the record.
//
// It promises that nothing is recorded early, and nothing twice: an entry leaves the calendar with the event
// that records it. It leaves to its caller whether the clock may be trusted, and when to ask again.
package expiry

import (
	"fmt"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// Actor is who records the ends of lifetimes.
const Actor = "_expiry"

// Calendar is what falls due, with the state of the keys concerned.
type Calendar interface {
	Due(now events.Instant, limit int) ([]catalog.Due, error)
	Key(events.KeyID) (projections.Key, error)
}

// Due gives the events that record what has come to its end at now, the earliest first, at most limit.
func Due(c Calendar, now events.Instant, limit int) ([]events.Event, error) {
	entries, err := c.Due(now, limit)
	if err != nil {
		return nil, err
	}
	out := make([]events.Event, 0, len(entries))
	said := make(map[events.KeyID]uint64)
	for _, entry := range entries {
		k, err := c.Key(entry.Key)
		if err != nil {
			return nil, err
		}
		fact, err := factOf(entry, &k)
		if err != nil {
			return nil, err
		}
		said[k.ID]++
		out = append(out, events.Event{
			Project: k.Project,
			Subject: k.ID,
			Rev:     k.Rev + said[k.ID],
			Fact:    fact,
			Admin:   events.Admin{Actor: Actor}.Plain(),
		})
	}
	return out, nil
}

func factOf(entry catalog.Due, k *projections.Key) (events.Fact, error) {
	switch {
	case entry.Kind == catalog.ExpiryDue && entry.At == k.ExpiresAt && !k.Expired:
		return &events.Expired{ExpiresAt: entry.At}, nil
	case entry.Kind == catalog.GraceDue && entry.At == k.Grace.Until:
		return &events.GraceEnded{GraceUntil: entry.At}, nil
	default:
		return nil, fmt.Errorf("calendar and key disagree about %s: %v is not due there", entry.Key, entry.At)
	}
}
