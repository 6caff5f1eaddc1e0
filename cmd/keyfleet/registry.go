package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/sealing"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

func (a *app) registryCommand() *cobra.Command {
	var server serverFlags
	var system systemFlags
	var signing, sealed, rest string
	cmd := &cobra.Command{
		Use:   "registry --signing-key FILE",
		Short: "Run a registry: it decides commands, or stands by for the one that does",
		Long: `Runs a registry on the log that keyfleet init has opened. Of all registries on a log one is active at a time; the
others take over from it. It refuses to start on NATS servers that do not sync every write to disk, and asks them with
the credentials of the system account.

With --sealing-key, what only admins need is encrypted in the log: names, descriptions, hints, and who did it. A copy of the
log, as PoPs have one, shows nothing of it. Every registry of the log needs that file, now and for as long as the log lives;
openssl rand -hex 32 makes a key.

It grants verifiers their leases, signed with the log's key, and tells of every change how many of them have it. It refuses
to lead when the log has lost anything that it, or a verifier, has seen signed.

The first registry to lead a new log makes the first admin key, an owner of everything, and writes its secret to
first-admin-key in its directory: take it from there, and remove the file.`,
		Args: cobra.NoArgs,
	}
	server.addTo(cmd, "./keyfleet-registry")
	cmd.Flags().StringVar(&rest, "http", "127.0.0.1:8080", "where REST and the console are; put something that speaks TLS before it")
	cmd.Flags().StringVar(&signing, "signing-key", "", "file with the private half of the log's key, as keyfleet init wrote it (required)")
	cmd.Flags().StringVar(&sealed, "sealing-key", "", "file with the keys that seal names, descriptions and actors from PoPs, one of 64 hexadecimal digits a line, the newest first")
	cmd.Flags().StringVar(&system.creds, "system-creds", "", "NATS credentials file of the system account, to ask the servers whether they sync always")
	cmd.Flags().StringVar(&system.nats, "system-nats", "", "NATS URL for the system account, if it is not --nats")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if signing == "" {
			return usageError("name the file that keyfleet init wrote with --signing-key: verifiers answer only by leases that it signs")
		}
		key, err := readSigningKey(signing)
		if err != nil {
			return err
		}
		ring, err := readSealingKeys(sealed)
		if err != nil {
			return err
		}
		return untilSignal(cmd.Context(), newLog(a.err, server.level), func(ctx context.Context, stop *stopping) error {
			return serveRegistry(ctx, stop, &server, &system, rest, registryKeys{key, ring})
		})
	}
	return cmd
}

func serveRegistry(ctx context.Context, stop *stopping, server *serverFlags, system *systemFlags, rest string, keys registryKeys) error {
	release, err := claimDirectory(server.data)
	if err != nil {
		return err
	}
	stop.then("directory", release)
	name := server.name
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return usageError("--name: this machine has no name of its own; give one (%v)", err)
		}
	}
	admin, err := listen("admin", server.admin)
	if err != nil {
		return err
	}
	stop.then("admin address", closing(admin))
	restAt, err := listen("http", rest)
	if err != nil {
		return err
	}
	stop.then("REST's address", closing(restAt))
	nc, err := dial(server.nats, server.access, "keyfleet registry "+name, stop.log)
	if err != nil {
		return err
	}
	stop.then("connection", func() error { nc.Close(); return nil })
	asSystem, err := dialSystem(stop, server, system)
	if err != nil {
		return err
	}
	failed := make(chan error, 4)
	metrics := newMetrics()
	r := registryParts{nc: nc, name: name, data: server.data, registryKeys: keys, system: asSystem, metrics: metrics,
		fail: func(err error) { failed <- err }}
	if asSystem != nil {
		r.syncAlways = eventlog.AskServers(asSystem)
	}
	if err := r.start(ctx, stop); err != nil {
		return err
	}
	r.serveREST(ctx, stop, restAt)
	serveHTTP(stop, "admin", admin, newServer(registryAdmin(r.service, metrics)), stop.log, r.fail)
	stop.log.Info("registry runs", "name", name, "nats", nc.ConnectedUrlRedacted(), "http", restAt.Addr(), "admin", admin.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// systemFlags say how to reach the system account.
type systemFlags struct{ creds, nats string }

// dialSystem connects the system account, if there is a way to.
func dialSystem(stop *stopping, server *serverFlags, system *systemFlags) (*nats.Conn, error) {
	if *system == (systemFlags{}) {
		return nil, nil // eventlog.Open says what to do
	}
	nc, err := dial(cmp.Or(system.nats, server.nats), access{system.creds, server.tlsCA}, "keyfleet registry's probe", stop.log)
	if err != nil {
		return nil, err
	}
	stop.then("system connection", func() error { nc.Close(); return nil })
	return nc, nil
}

// registryKeys are what a registry alone has.
type registryKeys struct {
	signingKey ed25519.PrivateKey
	ring       *sealing.Ring // nil where nothing is sealed
}

// registryParts is what a registry is made of.
type registryParts struct {
	nc         *nats.Conn
	name, data string
	registryKeys
	syncAlways func(context.Context, []string) error // of the servers; nil where nobody can say
	system     *nats.Conn                            // of the system account; nil where there is none
	metrics    prometheus.Registerer
	fail       func(error) // hears if it cannot go on

	replicas int // of the log; the election and the rest are kept by as many servers
	watch    *registryWatch
	storage  *storageWatch
	service  *registry.Service
}

// start has the registry running, as the active one or standing by.
func (r *registryParts) start(ctx context.Context, stop *stopping) error {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	log, err := eventlog.Open(opening, r.nc, eventlog.Options{SyncAlways: r.syncAlways})
	if err != nil {
		return err
	}
	r.replicas = log.Replicas()
	cat, err := catalog.Open(filepath.Join(r.data, "catalog"), catalog.Options{
		Log: stop.log, Ring: r.ring,
		OnDamage: func(err error) {
			r.fail(fmt.Errorf("the catalog is damaged, and is made anew at the next start: %w", err))
		},
	})
	if err != nil {
		return explainSealed(err)
	}
	stop.then("catalog", cat.Close)
	if r.watch, err = watchRegistry(stop.log, r.metrics); err != nil {
		return err
	}
	if err := r.watchStorage(stop); err != nil {
		return err
	}
	election, err := natsapi.NewElection(ctx, r.nc, natsapi.ElectionOptions{Name: r.name, Replicas: r.replicas})
	if err != nil {
		return err
	}
	heads, err := registry.OpenHeadFile(r.data)
	if err != nil {
		return err
	}
	stop.then("signed head", heads.Close)
	r.service = registry.NewService(log, cat, election, registry.Options{
		Name: r.name, Clock: machineClock, Observe: r.watch.hear, SigningKey: r.signingKey, Heads: heads, Full: r.storage.Full,
	})
	for _, c := range []prometheus.Collector{newFleetMetrics(r.service), expiringSoon(r.service), certificateEnd(r.nc)} {
		if err := r.metrics.Register(c); err != nil {
			return err
		}
	}
	if err := r.startSnapshots(ctx, stop, log); err != nil {
		return err
	}
	r.run(stop)
	if err := r.startUsage(stop); err != nil {
		return err
	}
	api, err := natsapi.Serve(r.nc, r.service, semanticVersion())
	if err != nil {
		return err
	}
	stop.then("commands over NATS", api.Close)
	return nil
}

// run lets the service run until it is stopped. It resigns then, so that a standby need not wait.
func (r *registryParts) run(stop *stopping) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.service.Run(ctx); ctx.Err() == nil {
			r.fail(fmt.Errorf("the registry cannot go on: %w", err))
		}
	}()
	stop.then("registry", func() error { cancel(); <-done; return nil })
}

// registryAdmin is for operators of a registry.
func registryAdmin(s *registry.Service, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		term, active := s.Active()
		w.Header().Set("Content-Type", "application/json")
		_ = writeJSON(w, struct {
			Active bool   `json:"active"` // false: it stands by
			Term   uint64 `json:"term,omitempty"`
		}{active, term})
	})
	mux.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.Handle("/debug/{$}", http.RedirectHandler("/debug/pprof/", http.StatusFound))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
