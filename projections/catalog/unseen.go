package catalog

import (
	"errors"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/projections/seen"
)

// unseen knows of most ids, names, digests and command ids that nothing stands under: what new commands ask for. Pebble
// takes microseconds to find nothing, and a command asks four times. What was stored before Open is taken in beside everything
// else; until that is done nothing counts as unseen. Only the writer may use it, but for takeIn.
type unseen struct {
	recent *seen.Filter // what was put since Open, committed or not
	stored atomic.Pointer[seen.Filter]
}

func newUnseen() *unseen { return &unseen{recent: seen.New(0)} }

// asked are the spaces in which commands look for what is not there yet.
var asked = [256]bool{keySpace: true, keyNameSpace: true, digestSpace: true, commandSpace: true}

// put has to be told of every key before it is written.
func (u *unseen) put(key []byte) {
	if asked[key[0]] {
		u.recent.Add(key)
	}
}

// has reports whether surely nothing was ever put under key. A nil unseen knows of nothing.
func (u *unseen) has(key []byte) bool {
	if u == nil {
		return false
	}
	stored := u.stored.Load()
	if stored == nil || !asked[key[0]] {
		return false
	}
	return !u.recent.MayHave(key) && !stored.MayHave(key)
}

var errStopped = errors.New("stopped")

// takeIn reads what is stored, unless stop ends first. What is put meanwhile may be missed.
func (u *unseen) takeIn(db pebble.Reader, stop <-chan struct{}) error {
	v := View{r: db}
	projects, err := v.Projects()
	if err != nil {
		return err
	}
	keys := 0
	for _, p := range projects {
		keys += p.Keys
	}
	f := seen.New(4 * keys) // an id, a name, a digest and a command each
	for space, is := range asked {
		if !is {
			continue
		}
		err := v.scan([]byte{byte(space)}, func(key, _ []byte) (bool, error) {
			select {
			case <-stop:
				return false, errStopped
			default:
				f.Add(key)
				return true, nil
			}
		})
		if err != nil {
			return err
		}
	}
	u.stored.Store(f)
	return nil
}
