package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/cmd/keyfleet/echomodel"
	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/gateway"
)

const devActor = "dev" // that clients of a dev are recorded under

// devFlags are the addresses of a dev, and its directory.
type devFlags struct {
	data, nats, http, check, admin, gateway string
	level                                   slog.Level
}

func (a *app) devCommand() *cobra.Command {
	var d devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run all of Keyfleet in one process, to try it and to develop against it",
		Long: `Runs a NATS server, a registry, a verifier, a gateway and a demo model in one process, on loopback addresses only, and
keeps everything in one directory. It goes on from there after any end, kill -9 included. Port 0 picks a free port.

Once ready it writes DIR/dev.json, which the other commands find by themselves, and prints what to type next. The file
has the addresses (nats as nats://host:port; http, check, admin and gateway as http://host:port), project and actor of
its user, and admin_key, the credential for REST. It is there for as long as dev is ready, and after a kill -9.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&d.data, "data", defaultData, "directory, made if it is not there")
	f.StringVar(&d.nats, "nats", "127.0.0.1:4222", "where NATS listens: commands")
	f.StringVar(&d.http, "http", "127.0.0.1:8080", "where REST and the console are")
	f.StringVar(&d.check, "check", "127.0.0.1:8181", "where checks are answered")
	f.StringVar(&d.admin, "admin", "127.0.0.1:8182", "where /livez, /readyz, /metrics and /debug/ are")
	f.StringVar(&d.gateway, "gateway", "127.0.0.1:8280", "where the gateway forwards to deployments")
	addLogLevel(cmd, &d.level)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return untilSignal(cmd.Context(), newLog(a.err, d.level), func(ctx context.Context, stop *stopping) error {
			return serveDev(ctx, stop, &d, a.out)
		})
	}
	return cmd
}

// devServer is a dev while it starts and runs.
type devServer struct {
	flags  *devFlags
	stop   *stopping
	failed chan error

	natsAt, httpAt, checkAt, adminAt, gatewayAt net.Listener

	adminKey string // of the run before, if it was found, and then of this one
	nats     *server.Server
	registry registryParts
	verifier verifierParts
	metrics  *prometheus.Registry
}

func serveDev(ctx context.Context, stop *stopping, flags *devFlags, out io.Writer) error {
	d := &devServer{flags: flags, stop: stop, failed: make(chan error, 8), metrics: newMetrics()}
	for _, step := range []func(context.Context) error{
		d.checkAddresses, d.claim, d.bind, d.startNATS, d.openLog, d.startRegistry, d.startVerifier, d.serveHTTP,
		d.awaitRegistry, d.setUpDemo, d.keepAdminKey, d.awaitVerifier,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	file, err := d.announce()
	if err != nil {
		return err
	}
	if err := welcome(out, flags.data, file); err != nil {
		return err
	}
	select {
	case err := <-d.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (d *devServer) fail(err error) { d.failed <- err }

// claim takes the directory. What dev.json says is not true again before everything is ready.
func (d *devServer) claim(context.Context) error {
	release, err := claimDirectory(d.flags.data)
	if err != nil {
		return err
	}
	d.stop.then("directory", release)
	if err := setAsideDevFile(d.flags.data); err != nil {
		return err
	}
	last, err := readDevFile(lastDevFilePath(d.flags.data))
	d.adminKey = last.AdminKey
	return err
}

// devAddress is one of a dev's listeners.
type devAddress struct {
	flag    string
	address *string
	at      *net.Listener
}

func (d *devServer) addresses() []devAddress {
	f := d.flags
	return []devAddress{
		{"nats", &f.nats, &d.natsAt},
		{"http", &f.http, &d.httpAt},
		{"check", &f.check, &d.checkAt},
		{"admin", &f.admin, &d.adminAt},
		{"gateway", &f.gateway, &d.gatewayAt},
	}
}

// checkAddresses comes before anything is touched.
func (d *devServer) checkAddresses(context.Context) (err error) {
	for _, a := range d.addresses() {
		if *a.address, err = loopback(a.flag, *a.address); err != nil {
			return err
		}
	}
	return nil
}

// bind takes every address before anything is started: one that is taken is found out at once.
func (d *devServer) bind(context.Context) (err error) {
	for _, a := range d.addresses() {
		if *a.at, err = listen(a.flag, *a.address); err != nil {
			return err
		}
		d.stop.then("--"+a.flag, closing(*a.at))
	}
	return nil
}

func (d *devServer) startNATS(context.Context) (err error) {
	if d.nats, err = startNATS(filepath.Join(d.flags.data, "nats"), d.natsAt, d.stop.log); err != nil {
		return err
	}
	d.stop.then("NATS server", func() error { return stopNATS(d.nats) })
	return nil
}

// connect gives a connection for one part. Round trips are shortest in the process itself; bulk is
// faster over TCP.
func (d *devServer) connect(part string, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := dial(d.nats.ClientURL(), access{}, "keyfleet dev: "+part, d.stop.log, opts...)
	if err != nil {
		return nil, err
	}
	d.stop.then(part+"'s connection", func() error { nc.Close(); return nil })
	return nc, nil
}

func (d *devServer) startRegistry(ctx context.Context) error {
	nc, err := d.connect("registry", nats.InProcessServer(d.nats))
	if err != nil {
		return err
	}
	key, err := readSigningKey(d.signingKey())
	if err != nil {
		return err
	}
	d.registry = registryParts{
		nc: nc, name: devActor, data: d.flags.data, registryKeys: registryKeys{signingKey: key}, syncAlways: syncsAlways(d.nats),
		metrics: d.metrics, fail: d.fail,
	}
	return d.registry.start(ctx, d.stop)
}

// awaitRegistry takes a while after a kill -9: the election first has to forget the run before. Checks are
// answered meanwhile.
func (d *devServer) awaitRegistry(ctx context.Context) error {
	return d.await(ctx, d.registry.watch.led)
}

// await waits for a part to be ready.
func (d *devServer) await(ctx context.Context, ready <-chan error) error {
	select {
	case err := <-ready:
		return err
	case err := <-d.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *devServer) startVerifier(ctx context.Context) error {
	nc, err := d.connect("verifier")
	if err != nil {
		return err
	}
	d.verifier = verifierParts{
		verifierFlags: verifierFlags{name: devActor, pop: "local", keys: logKeys{publicHalf(d.registry.signingKey)}, pastLease: string(events.ModeDeny)},
		nc:            nc, data: filepath.Join(d.flags.data, "verifier"), metrics: d.metrics, fail: d.fail,
	}
	return d.verifier.start(ctx, d.stop)
}

// awaitVerifier returns once all that was set up so far opens what it should.
func (d *devServer) awaitVerifier(ctx context.Context) error {
	if err := d.await(ctx, d.verifier.caughtUp); err != nil {
		return err
	}
	all, err := d.registry.service.Do(ctx, registry.Command{Project: defaultProject, Actor: systemActor, Verb: registry.ProjectList})
	page, ok := all.(*registry.ProjectPage)
	if err != nil || !ok {
		return err
	}
	check := verifier.Request{Project: defaultProject, Deployment: echomodel.Model, Key: []byte(d.adminKey), MinSeq: page.Seq}
	for ctx.Err() == nil {
		if d.verifier.verifier.Check(ctx, check).Reason != projections.BehindMinSeq {
			return nil
		}
	}
	return nil
}

func (d *devServer) serveHTTP(context.Context) error {
	log := d.stop.log
	if err := d.verifier.serve(d.stop, d.checkAt, d.adminAt); err != nil {
		return err
	}
	serveHTTP(d.stop, "REST", d.httpAt, newServer(restHandler(d.registry.service, log)), log, d.fail)
	gate := gateway.New(d.verifier.verifier, gateway.Options{Project: defaultProject, Log: log})
	serveHTTP(d.stop, "gateway", d.gatewayAt, gateway.NewServer(gate), log, d.fail)
	return nil
}

// announce writes dev.json.
func (d *devServer) announce() (devFile, error) {
	file := devFile{
		NATS: d.nats.ClientURL(), HTTP: urlOf(d.httpAt), Check: urlOf(d.checkAt), Admin: urlOf(d.adminAt), Gateway: urlOf(d.gatewayAt),
		Project: defaultProject, Actor: devActor, AdminKey: d.adminKey,
	}
	if err := file.write(d.flags.data); err != nil {
		return file, fmt.Errorf("write %s: %w", devFilePath(d.flags.data), err)
	}
	d.stop.then("dev.json", func() error { return setAsideDevFile(d.flags.data) })
	return file, nil
}

func urlOf(l net.Listener) string { return "http://" + l.Addr().String() }
