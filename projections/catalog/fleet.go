package catalog

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
)

// Release is the end of a membership that somebody asserted.
type Release struct {
	Member projections.Member
	Why    string
	Actor  string
	Reason string
	Seq    events.Seq
	At     events.Instant
}

// Release finds how an instance was released; the zero Release if it was not.
func (v *View) Release(id events.InstanceID) (r Release, err error) {
	r, _, err = get[Release](v, idKey(releaseSpace, id))
	return r, err
}

// Releases are all there were.
func (v *View) Releases() ([]Release, error) {
	var all []Release
	err := v.scan([]byte{releaseSpace}, func(_, value []byte) (bool, error) {
		var r Release
		err := unmarshal(value, &r)
		all = append(all, r)
		return true, err
	})
	return all, err
}

// KeepReceipt keeps what was said of the commit with the Seqs from first to end. It is no part of the state: it is not in the log,
// and a crash may lose it.
func (c *Catalog) KeepReceipt(first, end events.Seq, receipt []byte) error {
	value := binary.BigEndian.AppendUint64(nil, uint64(first))
	if err := c.db.Set(receiptKey(end), append(value, receipt...), pebble.NoSync); err != nil {
		return fmt.Errorf("keep a receipt: %w", err)
	}
	return nil
}

// Receipt finds what was said of the commit that holds the Seq; nil if nothing was kept.
func (v *View) Receipt(seq events.Seq) (receipt []byte, err error) {
	err = v.walk(receiptKey(seq), after([]byte{receiptSpace}), false, func(_, value []byte) (bool, error) {
		if len(value) >= 8 && events.Seq(binary.BigEndian.Uint64(value)) <= seq {
			receipt = slices.Clone(value[8:])
		}
		return false, nil
	})
	return receipt, err
}
