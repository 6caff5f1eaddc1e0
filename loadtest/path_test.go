package main

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
)

// BenchmarkPath measures the whole way of a command: from its sending over NATS to the first check, at a verifier
// that follows the log, that is answered by it. One caller, one key at a time.
func BenchmarkPath(b *testing.B) {
	f := startFleet(b)
	c := natsapi.NewClient(f.server.Connect(), "bench", "bench")
	require.NoError(b, c.Do(b.Context(), registry.DeploymentRegister, registry.Request{Name: "llama"}, &registry.DeploymentReply{}))
	var created, deleted spread
	n := 0
	b.Run("create+delete", func(b *testing.B) {
		created, deleted = nil, nil
		for b.Loop() {
			n++
			secret := apikey.Generate()
			name := fmt.Sprintf("key-%08d", n)
			created = append(created, f.until(b, c, secret, true, registry.KeyCreate, registry.Request{
				Name: name, Deployments: &[]string{"llama"}, Digest: secret.Digest().String(), Hint: secret.Hint(),
			}))
			deleted = append(deleted, f.until(b, c, secret, false, registry.KeyDelete, registry.Request{Key: name}))
		}
		created.report(b, "allowed-")
		deleted.report(b, "denied-")
	})
}

// until sends the command and checks until the answer is as wanted. It gives how long that took from the sending.
func (f *fleet) until(b *testing.B, c *natsapi.Client, secret apikey.Secret, allowed bool, verb registry.Verb, r registry.Request) time.Duration {
	key := []byte(secret.Reveal())
	sent := time.Now()
	replied := make(chan error, 1)
	go func() { replied <- c.Do(b.Context(), verb, r, &registry.KeyReply{}) }()
	for f.verifier.Check(b.Context(), verifier.Request{Project: "bench", Deployment: "llama", Key: key}).Allowed() != allowed {
		if time.Since(sent) > 10*time.Second {
			b.Fatalf("%s has not reached the verifier within 10 s", verb)
		}
		runtime.Gosched()
	}
	took := time.Since(sent)
	require.NoError(b, <-replied)
	return took
}
