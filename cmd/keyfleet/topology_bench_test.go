package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// BenchmarkTopology has the figures of docs/deploy.md: a hub of three NATS servers, two registries and three PoPs, a network namespace
// for each host. It needs root.
func BenchmarkTopology(b *testing.B) {
	top := startTopology(b)
	top.must("keyfleet", "deployments", "register", "llama")
	admin := top.admin()
	key := create(b, admin, "lasting")

	b.Run("revocation/quiet", func(b *testing.B) { report(b, revocations(b, admin, "quiet", 300)) })
	b.Run("revocation/1000_commands_a_second", func(b *testing.B) {
		loaded := make(chan *openloop.Outcome, 1)
		go func() {
			outcome, err := top.commands(b.Context(), "load", 1000, 30*time.Second)
			assertNoError(b, err)
			loaded <- outcome
		}()
		report(b, revocations(b, admin, "busy", 300))
		outcome := <-loaded
		b.ReportMetric(float64(outcome.Done)/30, "commands/s")
		b.ReportMetric(float64(outcome.Failed), "lost")
	})
	b.Run("cut_for_60_s", func(b *testing.B) {
		revoked := create(b, admin, "revoked")
		top.must("cut", "ams")
		began := time.Now()
		checked := make(chan *openloop.Outcome, 1)
		go func() {
			outcome, err := top.checks(b.Context(), "ams", key, 500, 60*time.Second)
			assertNoError(b, err)
			checked <- outcome
		}()
		require.NoError(b, admin.Do(b.Context(), registry.KeyDelete, registry.Request{Key: "revoked"}, nil))
		outcome := <-checked
		top.must("heal", "ams")
		healed := time.Now()
		for {
			again, err := top.checks(b.Context(), "ams", revoked, 0, time.Millisecond)
			require.NoError(b, err)
			if again.Failed > 0 {
				break
			}
		}
		b.ReportMetric(time.Since(healed).Seconds(), "s-to-catch-up")
		b.ReportMetric(healed.Sub(began).Seconds(), "s-cut")
		b.ReportMetric(100*float64(outcome.Done)/float64(outcome.Done+outcome.Failed), "%checks-good")
		top.settled()
	})
	for _, of := range []string{"leader", "follower"} {
		b.Run("hub_server_killed/"+of, func(b *testing.B) {
			host := top.logLeader(b)
			if of == "follower" {
				host = map[string]string{"hub1": "hub2", "hub2": "hub3", "hub3": "hub1"}[host]
			}
			b.ReportMetric(top.pause(b, admin, "killed-"+of, func() { top.must("kill", host) }).Seconds(), "s-without-commands")
			top.must("start", host)
			top.settled()
		})
	}
	b.Run("upgrade", func(b *testing.B) {
		checks, commands := top.upgrade(key, 200)
		var good, failed int64
		for _, o := range checks {
			good, failed = good+o.Done, failed+o.Failed
			b.Log(o.Failures)
		}
		b.ReportMetric(float64(good), "checks")
		b.ReportMetric(float64(failed), "checks-failed")
		b.ReportMetric(float64(commands.Done), "commands")
		b.ReportMetric(float64(commands.Failed), "commands-lost")
		b.Log(commands.Failures)
	})
}

func assertNoError(b *testing.B, err error) {
	if err != nil {
		b.Error(err)
	}
}

func create(b *testing.B, admin *natsapi.Client, name string) (secret string) {
	b.Helper()
	var made registry.KeyReply
	request := registry.Request{Name: name, Deployments: &[]string{"llama"}, Wait: registry.WaitConfirmed}
	require.NoError(b, admin.Do(b.Context(), registry.KeyCreate, request, &made))
	return made.Secret
}

// revocations deletes keys one after the other, each with all PoPs' confirmation, and gives how long that took.
func revocations(b *testing.B, admin *natsapi.Client, prefix string, n int) (took []time.Duration) {
	b.Helper()
	var afterRecorded []int64
	for i := range n {
		name := fmt.Sprintf("%s-%d", prefix, i)
		create(b, admin, name)
		began := time.Now()
		var reply registry.KeyReply
		require.NoError(b, admin.Do(b.Context(), registry.KeyDelete, registry.Request{Key: name, Wait: registry.WaitConfirmed}, &reply))
		took = append(took, time.Since(began))
		require.Equal(b, "confirmed", reply.Confirmation.State)
		afterRecorded = append(afterRecorded, reply.Confirmation.Slowest.Ms)
	}
	slices.Sort(afterRecorded)
	b.ReportMetric(float64(afterRecorded[n/2]), "p50-ms-since-recorded")
	return took
}

func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	for name, at := range map[string]int{"p50-ms": len(took) / 2, "p99-ms": len(took) * 99 / 100, "max-ms": len(took) - 1} {
		b.ReportMetric(float64(took[at].Microseconds())/1000, name)
	}
}

// logLeader is the host of the NATS server that leads the log.
func (top *topology) logLeader(b *testing.B) string {
	b.Helper()
	info, err := top.logInfo()
	require.NoError(b, err)
	return strings.Replace(info.Cluster.Leader, "hub-", "hub", 1)
}

// pause gives the longest time without a command carried out, while something happens.
func (top *topology) pause(b *testing.B, admin *natsapi.Client, prefix string, happens func()) (longest time.Duration) {
	b.Helper()
	last := time.Now()
	for i := range 3000 {
		if i == 500 {
			happens()
		}
		require.NoError(b, admin.Do(b.Context(), registry.KeyCreate, registry.Request{Name: fmt.Sprintf("%s-%d", prefix, i)}, nil))
		longest = max(longest, time.Since(last))
		last = time.Now()
	}
	return longest
}
