package registry

import (
	"math/bits"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestFieldsOfVerbs: what the rules name are fields, and there is a bit for each.
func TestFieldsOfVerbs(t *testing.T) {
	assert.Less(t, len(fieldNames), 64)
	for v, rule := range verbs {
		of := fieldsOf[v]
		assert.Equal(t, len(strings.Fields(rule.allowed())), bits.OnesCount64(uint64(of.allowed)), v)
		assert.Equal(t, len(strings.Fields(rule.required)), bits.OnesCount64(uint64(of.required)), v)
		assert.Zero(t, of.required&^of.allowed, v)
	}
	rev := uint64(0)
	r := Request{Name: "demo-key", ExpectRev: &rev}
	assert.Equal(t, fieldsNamed("name expect_rev"), r.sent())
}
