package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

// incumbentsCommand serves checks over HTTP five times, each decided in another way.
func incumbentsCommand() *cobra.Command {
	var i incumbentFlags
	cmd := &cobra.Command{Use: "incumbents", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return i.serve(cmd.Context()) }}
	f := cmd.Flags()
	f.StringVar(&i.nats, "nats", "", "server of the log and of the bucket")
	f.StringVar(&i.logKey, "log-key", "", "that signs grants")
	f.StringVar(&i.data, "data", "", "directory of the verifier")
	f.StringVar(&i.redisTCP, "redis-tcp", "", "where Redis listens")
	f.StringVar(&i.redisUnix, "redis-unix", "", "and its socket")
	return cmd
}

type incumbentFlags struct{ nats, logKey, data, redisTCP, redisUnix string }

func (i *incumbentFlags) serve(ctx context.Context) error {
	nc, err := nats.Connect(i.nats)
	if err != nil {
		return err
	}
	defer nc.Close()
	v, stop, err := runVerifier(ctx, nc, i.data, "incumbents", i.logKey)
	if err != nil {
		return err
	}
	defer stop()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	bucket, err := js.KeyValue(ctx, bucketName)
	if err != nil {
		return err
	}
	var addresses []any
	for name, c := range map[string]httpcheck.Checker{
		"nothing":    openDoor{},
		"keyfleet":   v,
		"redis_unix": newRedisStore("unix", i.redisUnix),
		"redis_tcp":  newRedisStore("tcp", i.redisTCP),
		"nats_kv":    lookup(func(ctx context.Context, presented []byte) ([]byte, error) { return readBucket(ctx, bucket, presented) }),
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		handler, err := httpcheck.New(c, httpcheck.Options{})
		if err != nil {
			return err
		}
		s := httpcheck.NewServer(handler)
		context.AfterFunc(ctx, func() { _ = s.Close() })
		go func() { _ = s.Serve(l) }() // ends with s
		addresses = append(addresses, name, l.Addr().String())
	}
	announce("incumbents", addresses...)
	<-ctx.Done()
	return nil
}

// openDoor lets everybody in: what remains is the price of HTTP.
type openDoor struct{}

func (openDoor) Check(context.Context, verifier.Request) verifier.Answer {
	return verifier.Answer{Decision: projections.Decision{Reason: projections.Allowed, Project: project}}
}

// errNoRecord says that a store does not know the key.
var errNoRecord = errors.New("no such record")

// lookup reads a key's record from a store. As a Checker it decides what a verifier would decide, as far as the keys of these scenarios go.
type lookup func(ctx context.Context, presented []byte) ([]byte, error)

func (find lookup) Check(ctx context.Context, r verifier.Request) verifier.Answer {
	refuse := func(why projections.Reason) verifier.Answer {
		return verifier.Answer{Decision: projections.Decision{Reason: why}}
	}
	if !apikey.WellFormed(r.Key) {
		return refuse(projections.Malformed)
	}
	text, err := find(ctx, r.Key)
	if errors.Is(err, errNoRecord) {
		return refuse(projections.Unknown)
	}
	if err != nil {
		return refuse(projections.Broken)
	}
	known, err := decodeRecord(text)
	if err != nil {
		return refuse(projections.Broken)
	}
	decision := projections.Decision{Reason: projections.NotAttached, Key: known.id, Project: project}
	if slices.Contains(known.deployments, r.Deployment) {
		decision.Reason = projections.Allowed
	}
	return verifier.Answer{Decision: decision}
}

// newRedisStore has a connection for each of a scenario's callers.
func newRedisStore(network, address string) lookup {
	client := redis.NewClient(&redis.Options{Network: network, Addr: address, PoolSize: 256, MinIdleConns: 64})
	return func(ctx context.Context, presented []byte) ([]byte, error) {
		text, err := client.Get(ctx, redisKey(presented)).Bytes()
		if errors.Is(err, redis.Nil) {
			return nil, errNoRecord
		}
		return text, err
	}
}

func readBucket(ctx context.Context, bucket jetstream.KeyValue, presented []byte) ([]byte, error) {
	entry, err := bucket.Get(ctx, apikey.DigestOf(presented).String())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, errNoRecord
	}
	if err != nil {
		return nil, err
	}
	return entry.Value(), nil
}

// record is what a store keeps of a key.
type record struct {
	id          events.KeyID
	deployments []string
}

func (r record) encode() []byte {
	return []byte(r.id.String() + "|" + strings.Join(r.deployments, ","))
}

func decodeRecord(text []byte) (record, error) {
	id, deployments, found := strings.Cut(string(text), "|")
	if !found {
		return record{}, fmt.Errorf("%q is no record of a key", text)
	}
	parsed, err := events.ParseKeyID(id)
	return record{parsed, strings.Split(deployments, ",")}, err
}
