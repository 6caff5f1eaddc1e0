package natsapi_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/events/head"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// lending is a registry that hears renewals.
type lending struct {
	*desk
	renew func(context.Context, string, head.Renewal) ([]byte, error)
}

func (l lending) Renew(ctx context.Context, v string, r head.Renewal) ([]byte, error) {
	return l.renew(ctx, v, r)
}
func (lending) Goodbye(context.Context, string, head.Goodbye) error { return nil }
func (lending) Acknowledge(string, head.Ack)                        {}

// The last one to arrive is the one whose answer is waited for.
func TestRenewalsOfOneVerifierKeepTheirOrder(t *testing.T) {
	server := eventlogtest.StartServer(t)
	var mu sync.Mutex
	var order []byte
	s, err := natsapi.Serve(server.Connect(), lending{&desk{}, func(_ context.Context, _ string, r head.Renewal) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, r.Nonce[0])
		return nil, nil
	}}, "1.2.3")
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	nc := server.Connect()
	wrong := 0
	for range 20 {
		mu.Lock()
		order = nil
		mu.Unlock()
		for n := range byte(3) { // two that were given up, and the live one, in one write
			body, err := json.Marshal(head.Call{Renewal: head.Renewal{Nonce: head.Nonce{n}}})
			require.NoError(t, err)
			require.NoError(t, nc.PublishRequest(head.RenewSubject+"edge", nats.NewInbox(), body))
		}
		require.NoError(t, nc.Flush())
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 3 }, 5*time.Second, time.Millisecond)
		mu.Lock()
		if order[2] != 2 {
			wrong++
		}
		mu.Unlock()
	}
	require.Zero(t, wrong, "of 20 bursts")
}

// Who has one verifier's credentials cannot keep the others from renewing.
func TestOneVerifierCannotTakeAllPlaces(t *testing.T) {
	server := eventlogtest.StartServer(t)
	taken, release := make(chan struct{}, 1), make(chan struct{})
	s, err := natsapi.Serve(server.Connect(), lending{&desk{}, func(_ context.Context, v string, _ head.Renewal) ([]byte, error) {
		if v == "evil" {
			select {
			case taken <- struct{}{}:
			default:
			}
			<-release
		}
		return []byte("grant"), nil
	}}, "1.2.3")
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	t.Cleanup(func() { close(release) })
	evil, good := server.Connect(), server.Connect()
	for range 5000 {
		require.NoError(t, evil.PublishRequest(head.RenewSubject+"evil", nats.NewInbox(), []byte(`{}`)))
	}
	require.NoError(t, evil.Flush())
	<-taken
	for range 10 {
		_, err := good.Request(head.RenewSubject+"good", []byte(`{}`), 10*time.Second)
		require.NoError(t, err)
	}
}
