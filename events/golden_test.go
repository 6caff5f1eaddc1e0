package events

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What stands in testdata was written by a released schema: it is rewritten only while a schema is
// being made.
var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// samples has one event of every type of schema 1, each field set, and the variants of the admin part.
func samples() []Event {
	key, dep, ins := [16]byte{1: 0xaa, 15: 1}, [16]byte{1: 0xbb, 15: 2}, [16]byte{1: 0xcc, 15: 3}
	digest := Digest(bytes.Repeat([]byte{0xd1}, 32))
	public := PublicKey(bytes.Repeat([]byte{0xee}, 32))
	expires := Instant(1_801_353_600_000) // 2027-01-31T00:00:00Z
	facts := []struct {
		subject [16]byte
		fact    Fact
	}{
		{fact: &LogOpened{Incarnation: Incarnation{15: 9}, SigningKey: public}},
		{fact: &TermOpened{Term: 300, Registry: "hub-1"}},
		{fact: &SchemaRaised{Schema: 2, Forced: true}},
		{fact: &SettingChanged{Name: "lease", Value: "10m"}},
		{fact: &SigningKeyAdded{SigningKey: public}},
		{fact: &SigningKeyRetired{SigningKey: public}},
		{fact: &ProjectOpened{DataKey: "dk-1", WrappedBy: "kek-1", Wrapped: []byte{1, 2, 3}}},
		{ins, &VerifierRegistered{Verifier: "edge-7", PoP: "fra", Mode: ModeServe, ServeBound: 86_400_000, Schema: 1, Version: "1.0.0"}},
		{ins, &VerifierLeft{Why: "goodbye"}},
		{key, &Created{Digest: digest, Deployments: []DeploymentID{dep, {7: 7}}, ExpiresAt: expires, Foreign: true, Role: "owner", Scope: "*"}},
		{key, &Edited{}},
		{key, &Attached{Deployments: []DeploymentID{dep}}},
		{key, &Detached{Deployments: []DeploymentID{dep}}},
		{key, &ExpiryChanged{ExpiresAt: Never}},
		{key, &Expired{ExpiresAt: -1}},
		{key, &Disabled{}},
		{key, &Enabled{}},
		{key, &Rotated{Digest: digest, GraceUntil: expires, Foreign: true}},
		{key, &GraceEnded{GraceUntil: expires}},
		{key, &Deleted{}},
		{dep, &DeploymentRegistered{Name: "llama", Upstream: "http://10.0.0.1:8000", Host: "llama.example.org"}},
		{dep, &DeploymentEdited{Upstream: "", Host: "llama.example.org"}},
		{dep, &DeploymentRemoved{}},
	}
	all := make([]Event, len(facts))
	name, description, hint, reason := "demo-key", "", "kf_0000…ffff", "lost laptop"
	admins := []AdminPart{
		Admin{Actor: "alice", CommandID: "c-1", Request: [16]byte{5}, Name: &name, Description: &description, Hint: &hint, Reason: &reason}.Plain(),
		Admin{Actor: "_expiry"}.Plain(),
		{DataKey: "dk-1", Nonce: []byte("123456789012"), Data: []byte{9, 9}},
	}
	for i, f := range facts {
		all[i] = Event{Subject: f.subject, Fact: f.fact, Admin: admins[i%len(admins)]}
		if f.subject != ([16]byte{}) {
			all[i].Project, all[i].Rev = "acme", uint64(100*i)
		}
	}
	return all
}

func sampleCommit(t *testing.T) *Commit {
	c := &Commit{
		Schema: 1, Incarnation: Incarnation{15: 9}, Term: 300, First: 70_000,
		Parent: ChainHash(bytes.Repeat([]byte{0xc4}, 32)), Time: 1_801_353_600_123, Prompt: true,
	}
	require.NoError(t, c.Add(samples()...))
	return c
}

// TestGolden holds encoders and decoders to the bytes that stand in logs already.
func TestGolden(t *testing.T) {
	const file = "testdata/schema-1.golden"
	var now strings.Builder
	for _, e := range samples() {
		b, err := e.Encode()
		require.NoError(t, err)
		fmt.Fprintf(&now, "%s %x\n", e.Fact.Type(), b)
	}
	body, err := sampleCommit(t).Encode()
	require.NoError(t, err)
	fmt.Fprintf(&now, "commit %x\nchain %s\n", body, HashCommit(body))
	if *rewrite {
		require.NoError(t, os.WriteFile(file, []byte(now.String()), 0o600))
	}
	golden, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(golden), now.String(), "the bytes of schema 1 have changed: logs that exist would not read any more")

	want := samples()
	for i, line := range strings.Split(strings.TrimSpace(string(golden)), "\n") {
		name, text, _ := strings.Cut(line, " ")
		b, err := hex.DecodeString(text)
		require.NoError(t, err)
		switch name {
		case "chain":
			assert.Equal(t, HashCommit(body).String(), text)
		case "commit":
			c, err := DecodeCommit(b)
			require.NoError(t, err)
			assert.Equal(t, sampleCommit(t), c)
			assert.Equal(t, Seq(70_022), c.Last())
		default:
			e, err := DecodeEvent(b)
			require.NoError(t, err, name)
			assert.Equal(t, want[i], e)
		}
	}
}

func TestEveryTypeHasASample(t *testing.T) {
	seen := map[Type]bool{}
	for _, e := range samples() {
		seen[e.Fact.Type()] = true
		require.IsType(t, e.Fact, newFact([]byte(e.Fact.Type())))
	}
	assert.Len(t, seen, 23, "the event types of schema 1")
}
