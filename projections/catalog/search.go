package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// What a name leads to: the key's id, what listings are sorted by, and what a search looks through, so that a search reads
// one stretch of the catalog and not every key.
const namedBytes = 16 + 8 + 8 // without the text

// errNamed says that what a name leads to is not what named gives.
var errNamed = errors.New("catalog record: it is too short to lead to a key")

func named(k *projections.Key) []byte {
	v := make([]byte, 0, namedBytes+len(k.Hint)+1+len(k.Description))
	v = appendInstant(appendInstant(append(v, k.ID[:]...), k.CreatedAt), k.ExpiresAt)
	v = append(append(v, strings.ToLower(k.Hint)...), 0)
	return append(v, strings.ToLower(k.Description)...)
}

// listed is the id of the key that stands at that place of a listing.
func listed(by Order, pointer, value []byte) (events.KeyID, error) {
	switch {
	case by != ByName:
		return events.KeyID(pointer[len(pointer)-len(events.KeyID{}):]), nil
	case len(value) < namedBytes:
		return events.KeyID{}, fmt.Errorf("%w: %q", errNamed, pointer)
	default:
		return events.KeyID(value[:len(events.KeyID{})]), nil
	}
}

// found is a key that a search has found.
type found struct {
	id events.KeyID
	at uint64 // what it is sorted by, where that is not its name
}

// Search gives the ids of the project's keys whose name, hint or description contains text, or whose id begins with it, in order.
// text is in lower case, and not empty. It stops with the error that more gives, which is asked now and then.
func (v *View) Search(project, text string, by Order, descending bool, more func() error) ([]events.KeyID, error) {
	const between = 4096 // keys looked at
	all, looked, wanted := []found{}, 0, []byte(text)
	prefix := nameKey(keyNameSpace, project, "")
	err := v.within(prefix, descending && by == ByName, func(pointer, value []byte) (bool, error) {
		if looked++; looked%between == 1 {
			if err := more(); err != nil {
				return false, err
			}
		}
		id, err := listed(ByName, pointer, value)
		if err != nil {
			return false, err
		}
		if bytes.Contains(pointer[len(prefix):], wanted) || bytes.Contains(value[namedBytes:], wanted) ||
			strings.HasPrefix(text, "key_") && strings.HasPrefix(id.String(), text) {
			all = append(all, found{id: id, at: sortedBy(value, by)})
		}
		return true, nil
	})
	if by != ByName {
		slices.SortFunc(all, func(a, b found) int { return a.compare(b, descending) })
	}
	ids := make([]events.KeyID, len(all))
	for i := range all {
		ids[i] = all[i].id
	}
	return ids, err
}

func sortedBy(named []byte, by Order) uint64 {
	switch by {
	case ByCreated:
		return binary.BigEndian.Uint64(named[16:])
	case ByExpiry:
		return binary.BigEndian.Uint64(named[24:])
	default:
		return 0
	}
}

// compare sorts as timeKey does.
func (f found) compare(g found, descending bool) int {
	if descending {
		f, g = g, f
	}
	switch {
	case f.at < g.at:
		return -1
	case f.at > g.at:
		return 1
	default:
		return bytes.Compare(f.id[:], g.id[:])
	}
}
