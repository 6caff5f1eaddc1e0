package verifier_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// exampleFleet is what the example's gateway finds: the log on a server, and a registry that leads. An example has
// nobody to report to: it panics.
type exampleFleet struct {
	address string
	logKey  events.PublicKey
	stop    func()
	admin   *natsapi.Client
}

func startExampleFleet() *exampleFleet {
	ctx, end := context.WithCancel(context.Background())
	dir := must(os.MkdirTemp("", "keyfleet-example-"))
	srv := must(server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(dir, "jetstream"), SyncAlways: true,
	}))
	srv.Start()
	nc := must(nats.Connect(srv.ClientURL(), nats.RetryOnFailedConnect(true)))
	key := ed25519.NewKeyFromSeed(must(io.ReadAll(io.LimitReader(rand.Reader, ed25519.SeedSize))))
	f := &exampleFleet{address: srv.ClientURL(), logKey: events.PublicKey(key[ed25519.SeedSize:]), admin: natsapi.NewClient(nc, "demo", "dev")}
	must(eventlog.Init(ctx, nc, eventlog.InitOptions{Actor: "dev", SigningKey: f.logKey}))
	synced := func(context.Context, []string) error { return nil } // see SyncAlways above
	log := must(eventlog.Open(ctx, nc, eventlog.Options{SyncAlways: synced}))
	cat := must(catalog.Open(filepath.Join(dir, "catalog"), catalog.Options{}))
	election := must(natsapi.NewElection(ctx, nc, natsapi.ElectionOptions{Name: "hub"}))
	svc := registry.NewService(log, cat, election, registry.Options{Name: "hub", SigningKey: key})
	api := must(natsapi.Serve(nc, svc, "0.0.0"))
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	f.stop = func() {
		end()
		<-ended
		_ = api.Close()
		_ = cat.Close()
		nc.Close()
		srv.Shutdown()
		srv.WaitForShutdown()
		_ = os.RemoveAll(dir)
	}
	return f
}

// createKey registers the deployment and makes a key that opens it. It returns the secret.
func (f *exampleFleet) createKey(name, deployment string) string {
	secret := apikey.Generate()
	f.do(registry.DeploymentRegister, registry.Request{Name: deployment})
	f.do(registry.KeyCreate, registry.Request{
		Name: name, Deployments: &[]string{deployment}, Digest: secret.Digest().String(), Hint: secret.Hint(),
	})
	return secret.Reveal()
}

// do commands; the client repeats itself until somebody leads.
func (f *exampleFleet) do(verb registry.Verb, r registry.Request) {
	if err := f.admin.Do(context.Background(), verb, r, &registry.KeyReply{}); err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
