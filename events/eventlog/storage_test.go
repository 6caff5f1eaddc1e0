package eventlog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
)

// Servers always have a limit; the account has none.
func TestStorages(t *testing.T) {
	servers := eventlogtest.StartCluster(t, 3)
	nc, system := servers[0].Connect(), servers[0].ConnectSystem()
	if _, err := eventlog.Init(t.Context(), nc, eventlog.InitOptions{SigningKey: events.PublicKey{1}, Actor: "ada", Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	storages := func() (names []string, behind int) {
		t.Helper()
		places, behind, err := eventlog.Storages(t.Context(), nc, system)
		if err != nil {
			return nil, -1 // while a server leaves
		}
		for _, p := range places {
			if !strings.HasPrefix(p.Name, "server ") || p.Used >= p.Limit {
				t.Fatalf("unlikely: %+v", p)
			}
			names = append(names, p.Name)
		}
		return names, behind
	}
	await := func(servers, behind int) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			names, missing := storages()
			if len(names) == servers && missing == behind {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("storage of %v, %d copies behind; want %d and %d", names, missing, servers, behind)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	await(3, 0)
	servers[2].Stop()
	await(2, 1)
	servers[2].Start()
	await(3, 0)
}
