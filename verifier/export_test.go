package verifier

import (
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/keyindex"
)

// PutIndexOn puts the verifier's index on a file system of the test's.
func (o *Options) PutIndexOn(fs vfs.FS) {
	o.index = keyindex.Options{FS: fs, FrontBytes: 1 << 20, MemTableBytes: 256 << 10}
}

// IndexDigest is that of the index, and where it belongs to.
func (v *Verifier) IndexDigest() (events.Position, events.Digest) { return v.idx.Digest() }
