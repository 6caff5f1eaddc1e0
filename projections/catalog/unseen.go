package catalog

import (
	"errors"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/projections/seen"
)

// unseen knows of most ids, names, digests and command ids that nothing stands under: what new commands ask for. Pebble
// takes microseconds to find nothing, and a command asks four times. What was stored before Open is taken in beside everything
// else; until that is done nothing counts as unseen. Once most of what it was shown is gone, it is made anew in the same way. Only the
// writer may use it, but for takeIn.
type unseen struct {
	recent *seen.Filter // what was put since Open, or since the last renewal began, committed or not
	stored *seen.Filter // what was stored before; nil until it was read
	gone   int          // of what was put or stored, about
	spare  int          // so much more than half may be gone

	renewal *seen.Filter // is put what recent is; it takes its place once what is stored has been read
	read    atomic.Pointer[seen.Filter]
	failed  atomic.Bool // it could not be
}

const usualSpare = 1 << 20 // 2 MiB

func newUnseen() *unseen { return &unseen{recent: seen.New(0), spare: usualSpare} }

// asked are the spaces in which commands look for what is not there yet.
var asked = [256]bool{keySpace: true, keyNameSpace: true, digestSpace: true, commandSpace: true}

// put has to be told of every key before it is written.
func (u *unseen) put(key []byte) {
	if !asked[key[0]] {
		return
	}
	u.recent.Add(key)
	if u.renewal != nil {
		u.renewal.Add(key)
	}
}

// remove is told of keys that go.
func (u *unseen) remove(key []byte) {
	if asked[key[0]] {
		u.gone++
	}
}

// has reports whether surely nothing was ever put under key. A nil unseen knows of nothing.
func (u *unseen) has(key []byte) bool {
	if u == nil || u.stored == nil || !asked[key[0]] {
		return false
	}
	return !u.recent.MayHave(key) && !u.stored.MayHave(key)
}

// turn takes what was read, if it has been.
func (u *unseen) turn() {
	if u.failed.Swap(false) {
		u.renewal, u.gone = nil, 0 // until as much has gone again
	}
	if f := u.read.Swap(nil); f != nil {
		u.stored = f
		if u.renewal != nil {
			u.recent, u.renewal = u.renewal, nil
		}
	}
}

// renew begins to make it anew if most of what it was shown is gone: everything that was committed so far is to be read, and
// nothing else that was put may still be.
func (u *unseen) renew() bool {
	if u.stored == nil || u.renewal != nil || u.gone <= (u.recent.Len()+u.stored.Len())/2+u.spare {
		return false
	}
	u.renewal, u.gone = seen.New(0), 0
	return true
}

var errStopped = errors.New("stopped")

// takeIn reads what is stored, unless stop ends first, for the next turn. What is put meanwhile may be missed.
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
	u.read.Store(f)
	return nil
}
