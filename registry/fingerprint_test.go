package registry

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestFingerprints holds what stands in the log beside command ids: were it made differently, every retry across an
// upgrade would be a conflict.
func TestFingerprints(t *testing.T) {
	text, list, rev := "x<é>", []string{"llama", "qwen"}, uint64(3)
	full := Request{
		CommandID: "c1", Key: "demo-key", Name: "name", Description: &text, Deployments: &list, ExpiresAt: &text, Grace: &text,
		Digest: "00", Hint: "kf_aaaa…zzzz", ExpectRev: &rev, Role: "owner", Scope: "*", Upstream: &text, Host: &text,
		Limit: 1, Offset: 2, OrderBy: "name", Search: "x", Wait: "confirmed", WaitTimeout: "1s",
	}
	for want, c := range map[string]Command{
		"6cf5f9daf5cabcd181a8951461ce9931": {Verb: KeyCreate, Request: full},
		"b112d88d579da058d6625548cc9dac15": {Verb: KeyDelete, Request: Request{Key: "demo-key"}},
		"da3bdaa23d143ac49a35ea41b11d883c": {Verb: KeyDelete},
	} {
		assert.Equal(t, want, fmt.Sprintf("%x", c.fingerprint()))
	}
	c := Command{Verb: KeyDelete, Request: Request{Key: "demo-key", CommandID: "other", Wait: "recorded", WaitTimeout: "9s"}}
	d := Command{Verb: KeyDelete, Request: Request{Key: "demo-key"}}
	assert.Equal(t, d.fingerprint(), c.fingerprint(), "the id and how long to wait are no part of it")
}
