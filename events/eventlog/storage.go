package eventlog

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Storage is a place that the log fills up, and how far it has.
type Storage struct {
	Name        string // "account", or a server's name
	Used, Limit uint64 // bytes
}

// Storages tells of every place with a limit that the log is kept in: the account of nc and, where there is a connection
// of the system account, the servers. Behind is how many copies of the log are not complete, or cannot be reached.
func Storages(ctx context.Context, nc, system *nats.Conn) (places []Storage, behind int, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, 0, fmt.Errorf("ask how full the log's storage is: %w", err)
	}
	info, err := streamInfo(ctx, js)
	if err != nil {
		return nil, 0, fmt.Errorf("ask how full the log's storage is: %w", err)
	}
	if info.Cluster != nil {
		for _, copied := range info.Cluster.Replicas {
			if copied.Offline || !copied.Current {
				behind++
			}
		}
	}
	account, err := js.AccountInfo(ctx)
	if err != nil {
		return nil, behind, fmt.Errorf("ask how full the account's storage is: %w", err)
	}
	places = withLimit(places, "account", account.Store, account.Limits.MaxStore)
	for tier, t := range account.Tiers {
		places = withLimit(places, "account "+tier, t.Store, t.Limits.MaxStore)
	}
	if system == nil {
		return places, behind, nil
	}
	servers, err := serversStorage(ctx, system, hosts(info))
	return append(places, servers...), behind, err
}

func streamInfo(ctx context.Context, js jetstream.JetStream) (*jetstream.StreamInfo, error) {
	stream, err := js.Stream(ctx, StreamName)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

func withLimit(places []Storage, name string, used uint64, limit int64) []Storage {
	if limit <= 0 {
		return places
	}
	return append(places, Storage{Name: name, Used: used, Limit: uint64(limit)})
}

// serversStorage asks the servers that keep the log, each of which may be down.
func serversStorage(ctx context.Context, system *nats.Conn, names []string) (places []Storage, err error) {
	replies, err := system.SubscribeSync(system.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("ask how full the servers' storage is: %w", err)
	}
	defer func() { _ = replies.Unsubscribe() }()
	if err := system.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", replies.Subject, nil); err != nil {
		return nil, fmt.Errorf("ask how full the servers' storage is: %w", err)
	}
	waiting := map[string]bool{}
	for _, name := range names {
		waiting[name] = true
	}
	for len(waiting) > 0 {
		m, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return places, fmt.Errorf("ask how full the servers' storage is: no answer from %v: %w", keys(waiting), err)
		}
		var reply struct {
			Server struct{ Name string }
			Data   struct {
				Storage uint64
				Config  struct {
					MaxStorage int64 `json:"max_storage"`
				}
			}
		}
		if json.Unmarshal(m.Data, &reply) == nil && waiting[reply.Server.Name] {
			places = withLimit(places, "server "+reply.Server.Name, reply.Data.Storage, reply.Data.Config.MaxStorage)
			delete(waiting, reply.Server.Name)
		}
	}
	return places, nil
}
