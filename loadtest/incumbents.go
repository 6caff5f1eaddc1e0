package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/loadtest/report"
)

var incumbents = scenario{"incumbents", "What people use today, for the same keys, behind the same HTTP handler, in one and the same process: a Redis GET for each check, a NATS KV get, and a verifier in that process. " +
	"Redis keeps nothing on disk, its pool has a connection for each caller, and each check is a command of its own; the NATS bucket is in memory. With nothing to ask, the handler lets every key pass.",
	func(ctx context.Context, b *bench, result *report.Scenario) error {
		if _, err := exec.LookPath(redisProgram); err != nil {
			return err
		}
		s, err := b.shared(ctx)
		if err != nil {
			return err
		}
		store, err := startRedis(ctx, s)
		if err != nil {
			return err
		}
		s.others = append(s.others, store.process)
		if err := errors.Join(fillRedis(ctx, s, store.unix), fillBucket(ctx, s)); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		handlers, err := startProcess(ctx, s.patience, self, "serve", "incumbents", "--nats", s.url, "--log-key", s.logKey, "--data", filepath.Join(s.dir, "incumbents"),
			"--redis-tcp", store.tcp, "--redis-unix", store.unix)
		if err != nil {
			return err
		}
		s.others = append(s.others, handlers)
		for _, w := range []way{
			{"nothing", overHTTP(handlers.addresses["nothing"], checkPath), []*process{handlers}},
			{"Keyfleet", overHTTP(handlers.addresses["keyfleet"], checkPath), []*process{handlers}},
			{"Redis, Unix socket", overHTTP(handlers.addresses["redis_unix"], checkPath), []*process{handlers, store.process}},
			{"Redis, TCP", overHTTP(handlers.addresses["redis_tcp"], checkPath), []*process{handlers, store.process}},
			{"NATS KV", overHTTP(handlers.addresses["nats_kv"], checkPath), []*process{handlers, s.nats}},
		} {
			if err := b.measureWay(ctx, result, w, s.keys); err != nil {
				return err
			}
		}
		result.Figures = append(result.Figures, ratios(result.Figures)...)
		return nil
	}}

// ratios set the others beside Keyfleet: how many times as many checks it answers, and how many times as much of the cores they need
// for one.
func ratios(figures []report.Figure) (made []report.Figure) {
	value := map[report.Figure]float64{}
	for _, f := range figures {
		value[report.Figure{Name: f.Name, Unit: f.Unit}] = f.Value
	}
	of := func(name, unit string) float64 { return value[report.Figure{Name: name, Unit: unit}] }
	for _, other := range []string{"Redis, Unix socket", "Redis, TCP", "NATS KV"} {
		if of(other, checksPerSecond) == 0 || of("Keyfleet", microsOfCores) == 0 {
			continue // too short to tell
		}
		made = append(made,
			report.Figure{Name: other, Value: report.Significant(of("Keyfleet", checksPerSecond) / of(other, checksPerSecond)), Unit: "times as many checks by Keyfleet"},
			report.Figure{Name: other, Value: report.Significant(of(other, microsOfCores) / of("Keyfleet", microsOfCores)), Unit: "times the cores of Keyfleet"})
	}
	return made
}

const redisProgram = "redis-server"

// redisProcess is a Redis and where it listens.
type redisProcess struct {
	*process
	tcp, unix string
}

// startRedis has it keep nothing on disk: a store of keys that can be filled again needs no more, and no less is fair. More threads than
// one are for machines with four cores and more, as its own configuration says.
func startRedis(ctx context.Context, s *stand) (*redisProcess, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if err := free.Close(); err != nil {
		return nil, err
	}
	r := &redisProcess{tcp: free.Addr().String(), unix: filepath.Join(s.dir, "redis.sock")}
	_, port, err := net.SplitHostPort(r.tcp)
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: r.unix, MaxRetries: -1})
	defer client.Close()
	r.process, err = startSilent(ctx, func() bool { return client.Ping(ctx).Err() == nil }, redisProgram,
		"--bind", "127.0.0.1", "--port", port, "--unixsocket", r.unix, "--dir", s.dir, "--save", "", "--appendonly", "no")
	return r, err
}

func fillRedis(ctx context.Context, s *stand, unix string) error {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: unix, ReadTimeout: time.Minute})
	defer client.Close()
	const batch = 1000
	for i := 0; i < len(s.keys); i += batch {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for j := i; j < min(i+batch, len(s.keys)); j++ {
				p.Set(ctx, redisKey([]byte(s.keys[j])), record{id: s.ids[j], deployments: []string{deployment}}.encode(), 0)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// redisKey is as short as it can be: digests are as good as names.
func redisKey(presented []byte) string {
	digest := apikey.DigestOf(presented)
	return string(digest[:])
}

const bucketName = "incumbent"

func fillBucket(ctx context.Context, s *stand) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return err
	}
	_, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucketName, Storage: jetstream.MemoryStorage})
	if err != nil {
		return err
	}
	for i, key := range s.keys {
		subject := "$KV." + bucketName + "." + apikey.DigestOf([]byte(key)).String()
		if _, err := js.PublishAsync(subject, record{id: s.ids[i], deployments: []string{deployment}}.encode()); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
