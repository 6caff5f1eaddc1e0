package catalog

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/keyfleet/keyfleet/events"
)

// format is the version of all that is stored. A catalog of an older one is thrown away, and made anew from the log; one of a
// newer binary is refused.
const format = 4

// The first byte of every stored key says what stands there.
const (
	metaSpace        = 'M' // -> meta
	charterSpace     = 'B' // -> projections.Charter
	projectSpace     = 'P' // project -> Project
	keySpace         = 'K' // key id -> keyRecord
	keyNameSpace     = 'N' // project 0 name -> see named
	digestSpace      = 'G' // digest -> key id
	deploymentSpace  = 'D' // deployment id -> projections.Deployment
	deploymentNames  = 'E' // project 0 name -> deployment id
	hostSpace        = 'O' // host -> deployment id
	attachmentSpace  = 'A' // deployment id, key id -> nothing
	dueSpace         = 'X' // instant, kind, key id -> nothing
	commandSpace     = 'C' // first half of SHA-256 of (project, actor, command id) -> Command
	historySpace     = 'H' // key id, Seq -> stream sequence of the commit; not of a living key's last event
	keyCreatedSpace  = 'T' // project 0 created-at, key id -> nothing
	keyExpiringSpace = 'U' // project 0 expires-at, key id -> nothing
	releaseSpace     = 'R' // instance id -> Release
	dataKeySpace     = 'S' // data key's id -> DataKey
	sealedUnderSpace = 'W' // project -> id of its newest data key
	usageSpace       = 'L' // key id -> Usage: not of the log either, as the next two
	usageRunSpace    = 'Q' // verifier 0 -> runs
	usagePlaceSpace  = 'J' // -> UsagePlace
	receiptSpace     = 'V' // Seq at which a commit ends -> receipt: not of the log, and lost with the directory
)

var (
	metaKey       = []byte{metaSpace}
	charterKey    = []byte{charterSpace}
	usagePlaceKey = []byte{usagePlaceSpace}
)

func idKey(space byte, id [16]byte) []byte {
	return append(append(make([]byte, 0, 1+len(id)), space), id[:]...)
}

func nameKey(space byte, project, name string) []byte {
	return appendNameKey(make([]byte, 0, 1+len(project)+1+len(name)), space, project, name)
}

func appendNameKey(k []byte, space byte, project, name string) []byte {
	k = append(append(k, space), project...)
	return append(append(k, 0), name...)
}

func projectKey(project string) []byte { return append([]byte{projectSpace}, project...) }

func digestKey(d events.Digest) []byte {
	return append(append(make([]byte, 0, 1+len(d)), digestSpace), d[:]...)
}

func hostKey(host string) []byte { return append([]byte{hostSpace}, host...) }

func attachmentKey(d events.DeploymentID, k events.KeyID) []byte {
	return append(idKey(attachmentSpace, d), k[:]...)
}

func historyKey(k events.KeyID, seq events.Seq) []byte {
	b := append(append(make([]byte, 0, 1+len(k)+8), historySpace), k[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(seq))
}

func receiptKey(end events.Seq) []byte {
	return binary.BigEndian.AppendUint64([]byte{receiptSpace}, uint64(end))
}

func dueKey(at events.Instant, kind DueKind, k events.KeyID) []byte {
	return append(append(dueBefore(at), byte(kind)), k[:]...)
}

// dueBefore is the bound below which everything due before the instant stands.
func dueBefore(at events.Instant) []byte {
	return appendInstant([]byte{dueSpace}, at)
}

// appendInstant writes an instant so that bytes sort as instants do, those before 1970 included.
func appendInstant(b []byte, at events.Instant) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(at)^(1<<63))
}

func readInstant(b []byte) events.Instant {
	return events.Instant(binary.BigEndian.Uint64(b) ^ (1 << 63))
}

func timeKey(space byte, project string, at events.Instant, k events.KeyID) []byte {
	b := appendNameKey(make([]byte, 0, 1+len(project)+1+8+len(k)), space, project, "")
	return append(appendInstant(b, at), k[:]...)
}

// commandKey hashes lengths along with the parts, so that no two triples share a key.
func commandKey(project, actor, id string) []byte {
	text := make([]byte, 0, 256) // what most need: it stays on the stack
	for _, part := range [...]string{project, actor, id} {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	sum := sha256.Sum256(text)
	return idKey(commandSpace, [16]byte(sum[:16]))
}

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < math.MaxUint8 {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}
