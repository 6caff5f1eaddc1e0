package seen

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestFilter: nothing that was shown is unseen, however often the filter grew; of the rest, nearly all is.
func TestFilter(t *testing.T) {
	const (
		words = 1 << 16
		shown = 3*words*perWord + 1 // three layers
	)
	key := func(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	f := ofWords(words)
	for n := range shown {
		f.Add(key(n))
	}
	assert.InEpsilon(t, shown, f.Len(), 0.05)
	wrong, missed := 0, 0
	for n := range shown {
		if !f.MayHave(key(n)) {
			wrong++
		}
		if f.MayHave(key(shown + n)) {
			missed++
		}
	}
	assert.Zero(t, wrong)
	assert.Less(t, missed, shown/20)
}
