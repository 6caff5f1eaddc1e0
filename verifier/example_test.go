package verifier_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/uplink"
)

// A gateway of one's own checks keys in process: it is a member of the fleet like any verifier, and no daemon runs
// beside it.
func Example() {
	fleet := startExampleFleet() // elsewhere: a NATS server, and a registry
	defer fleet.stop()
	secret := fleet.createKey("my-key", "llama")

	dir, err := os.MkdirTemp("", "my-gateway-") // in production a directory that stays: it need not read the log again
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	v, ended, err := embed(ctx, dir, fleet.address, fleet.logKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	model := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Hello, edge!") })
	gateway := guard(v, "demo", "llama", model)

	call := func(key string) int {
		r := httptest.NewRequest(http.MethodGet, "/v1/models", nil)
		r.Header.Set("x-api-key", key)
		answer := httptest.NewRecorder()
		gateway.ServeHTTP(answer, r)
		return answer.Code
	}
	fmt.Println("its key:", call(secret))
	fmt.Println("another:", call("sk-unknown"))
	fleet.do(registry.KeyDelete, registry.Request{Key: "my-key", Wait: "confirmed"})
	fmt.Println("deleted:", call(secret))

	stop() // the registry is told: no confirmation waits for this verifier any longer
	<-ended
	if err := v.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// its key: 200
	// another: 401
	// deleted: 401
}

// embed has a verifier with its index in dir running until ctx ends, and returns once it answers. The channel is closed
// when it has ended.
func embed(ctx context.Context, dir, address string, logKey events.PublicKey) (*verifier.Verifier, <-chan struct{}, error) {
	nc, err := nats.Connect(address, nats.MaxReconnects(-1))
	if err != nil {
		return nil, nil, err
	}
	log, err := eventlog.Open(ctx, nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	hub, err := uplink.New(nc, "my-gateway") // the name that its credentials are for
	if err != nil {
		return nil, nil, err
	}
	ready := make(chan struct{})
	var once sync.Once
	v, err := verifier.Open(dir, verifier.Options{
		Source: log, Uplink: hub, Reports: hub, Name: "my-gateway", LogKeys: []events.PublicKey{logKey},
		Listen: func(e verifier.Event) {
			if _, ok := e.(verifier.CaughtUp); ok {
				once.Do(func() { close(ready) }) // it says so after each outage
			}
		},
	})
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer nc.Close()
		_ = v.Run(ctx) // an error only for options that it lacks
	}()
	<-ready
	return v, ended, nil
}

// guard lets requests through to next whose key opens the deployment. The key is not for next to see.
func guard(v *verifier.Verifier, project, deployment string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := v.Check(r.Context(), verifier.Request{Project: project, Deployment: deployment, Key: []byte(r.Header.Get("x-api-key"))})
		switch answer.Reason.Class() {
		case projections.Pass:
			r.Header.Del("x-api-key")
			next.ServeHTTP(w, r)
		case projections.Forbidden:
			http.Error(w, "the key does not open this model", http.StatusForbidden)
		case projections.Unauthenticated:
			http.Error(w, "no valid key", http.StatusUnauthorized)
		default:
			http.Error(w, "keys cannot be checked now", http.StatusServiceUnavailable)
		}
	})
}
