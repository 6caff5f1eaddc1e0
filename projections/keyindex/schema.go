package keyindex

import "github.com/keyfleet/keyfleet/events"

// The form of everything in the directory, as a line that people can read. The number rises when what is stored
// changes; an index of a lower one begins empty.
const (
	formatName   = "keyfleet keyindex "
	formatNumber = 2 // 2: the digest beside the position
)

// The keys of the store: a letter, and what follows it.
const (
	charterSpace    = 'c'
	deploymentSpace = 'd' // deployment id -> deployment
	idSpace         = 'i' // key id -> the digest that the key has now
	digestSpace     = 'k' // digest -> key, or an alias of the digest that the key has now
	positionSpace   = 'p'
)

var (
	charterKey  = []byte{charterSpace}
	positionKey = []byte{positionSpace}
)

func deploymentKey(id events.DeploymentID) []byte { return append([]byte{deploymentSpace}, id[:]...) }
func idKey(id events.KeyID) []byte {
	return append(append(make([]byte, 0, 1+len(id)), idSpace), id[:]...)
}
func digestKey(d events.Digest) []byte {
	return append(append(make([]byte, 0, 1+len(d)), digestSpace), d[:]...)
}
