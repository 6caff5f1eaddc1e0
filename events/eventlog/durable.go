package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// checkServers asks whether the servers that keep the stream sync always.
func checkServers(ctx context.Context, info *jetstream.StreamInfo, syncAlways func(context.Context, []string) error) error {
	if syncAlways == nil {
		return fmt.Errorf("%w: nobody can say whether the NATS servers sync every write to disk, and by default they do not; "+
			"give credentials of the system account, so that they can be asked", ErrUnsafe)
	}
	if err := syncAlways(ctx, hosts(info)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsafe, err)
	}
	return nil
}

// hosts names the servers that keep the stream. One that is down cannot be asked, and must not keep a registry
// from starting: with three replicas the loss of any one is allowed. An operator who brings it back without
// sync always is noticed at the next Open.
func hosts(info *jetstream.StreamInfo) []string {
	if info.Cluster == nil {
		return nil
	}
	var names []string
	if info.Cluster.Leader != "" {
		names = append(names, info.Cluster.Leader)
	}
	for _, peer := range info.Cluster.Replicas {
		if !peer.Offline {
			names = append(names, peer.Name)
		}
	}
	return names
}

// jszReply is what we read of a server's answer about its JetStream.
type jszReply struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data struct {
		Config struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	} `json:"data"`
}

// AskServers gives an Options.SyncAlways that asks the servers themselves, over a connection of their system
// account. It repeats the question until each has answered or ctx ends.
func AskServers(system *nats.Conn) func(ctx context.Context, servers []string) error {
	return func(ctx context.Context, servers []string) error {
		if len(servers) == 0 {
			return errors.New("the stream does not say which servers keep it")
		}
		waiting := make(map[string]bool)
		for _, name := range servers {
			waiting[name] = true
		}
		replies, err := system.SubscribeSync(system.NewInbox())
		if err != nil {
			return fmt.Errorf("ask the servers whether they sync always: %w", err)
		}
		defer func() { _ = replies.Unsubscribe() }()
		for len(waiting) > 0 {
			if err := askOnce(ctx, system, replies, waiting); err != nil {
				return err
			}
		}
		return nil
	}
}

// askOnce pings all servers and crosses off who answers. Running out of time without all is no error: they
// are asked again.
func askOnce(ctx context.Context, system *nats.Conn, replies *nats.Subscription, waiting map[string]bool) error {
	if err := system.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", replies.Subject, nil); err != nil {
		return fmt.Errorf("ask the servers whether they sync always: %w", err)
	}
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	for len(waiting) > 0 {
		m, err := replies.NextMsgWithContext(attempt)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("ask the servers whether they sync always: no answer from %v: %w", keys(waiting), ctx.Err())
		case attempt.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrNoResponders):
			return errors.New("ask the servers whether they sync always: nobody listens; is this a connection of the system account?")
		case err != nil:
			return fmt.Errorf("ask the servers whether they sync always: %w", err)
		}
		var reply jszReply
		if json.Unmarshal(m.Data, &reply) != nil || !waiting[reply.Server.Name] {
			continue
		}
		if !reply.Data.Config.SyncAlways {
			return fmt.Errorf("server %s does not sync every write: power loss would take back acknowledged commands; "+
				"set `sync_interval: always` in the jetstream block of its configuration", reply.Server.Name)
		}
		delete(waiting, reply.Server.Name)
	}
	return nil
}

func keys(set map[string]bool) []string {
	var names []string
	for name := range set {
		names = append(names, name)
	}
	return names
}

// pauseFor waits, and reports whether ctx still runs.
func pauseFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
