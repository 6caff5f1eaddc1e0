package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
	"github.com/keyfleet/keyfleet/verifier/uplink"
)

// verifierFlags say what a verifier is in the fleet.
type verifierFlags struct {
	name      string
	pop       string
	keys      logKeys
	pastLease string
	serveFor  time.Duration
	mirror    bool
	run       string
}

func (v *verifierFlags) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&v.pop, "pop", "", "site where it runs, for people")
	f.Var(&v.keys, "log-key", "public half of the log's key, as keyfleet init prints it; repeated where the key is being changed (required)")
	f.StringVar(&v.pastLease, "past-lease", string(events.ModeDeny), "deny: answer 503 once the lease is over; serve: answer on, marked stale, and hold up every confirmation")
	f.DurationVar(&v.serveFor, "serve-for", 24*time.Hour, "how long past its lease it answers on, with --past-lease serve")
	f.BoolVar(&v.mirror, "mirror", false, "--nats is the PoP's own server, which has a copy of the log: see keyfleet deploy")
	f.StringVar(&v.run, "run", "", "directory on tmpfs by which a restart goes on as the same instance (default: one under $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR or /dev/shm)")
}

func (v *verifierFlags) check() error {
	switch {
	case events.CheckActor(v.name) != nil:
		return flagError("name", "%v; it is the verifier's own in the fleet, and in its credentials", events.CheckActor(v.name))
	case len(v.keys) == 0:
		return flagError("log-key", "give the key that keyfleet init printed: grants that it did not sign are not believed")
	case len(v.keys) > verifier.MaxLogKeys:
		return flagError("log-key", "at most %d, not %d: leave out those that sign nothing any more", verifier.MaxLogKeys, len(v.keys))
	case v.pastLease != string(events.ModeDeny) && v.pastLease != string(events.ModeServe):
		return flagError("past-lease", "deny or serve, not %q", v.pastLease)
	case v.pastLease == string(events.ModeServe) && (v.serveFor < time.Millisecond || v.serveFor > 24*time.Hour):
		return flagError("serve-for", "more than nothing, and at most 24h, not %s", v.serveFor)
	}
	return nil
}

// serveBound is how long past its lease the verifier answers.
func (v *verifierFlags) serveBound() time.Duration {
	if v.pastLease == string(events.ModeServe) {
		return v.serveFor
	}
	return 0
}

// runDir is a directory of this verifier's own that does not outlive the machine's run.
func (v *verifierFlags) runDir(data string) (string, error) {
	if v.run != "" {
		return v.run, nil
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return "", err
	}
	own := fmt.Sprintf("keyfleet-%d-%x", os.Geteuid(), sha256.Sum256([]byte(data)))[:40]
	base, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	for _, dir := range []string{base, os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return filepath.Join(dir, own), nil
		}
	}
	return "", nil // every start is another instance then
}

func (a *app) verifierCommand() *cobra.Command {
	var server serverFlags
	var self verifierFlags
	var check string
	var ways otherWays
	cmd := &cobra.Command{
		Use:   "verifier --name NAME --log-key KEY",
		Short: "Run a verifier: it answers checks from an index of its own",
		Long: `Runs a verifier, which follows the log into an index of its own and answers checks over HTTP without asking anybody.

It is a member of the fleet from its first start: the registry grants it a lease each second, signed with the log's key,
and counts how far it has come. Cut off, it answers until its lease is over; a change is confirmed once every verifier has
applied it, or has stopped. A clean stop ends the membership. After a kill it goes on as the same member.`,
		Args: cobra.NoArgs,
	}
	server.addTo(cmd, "./keyfleet-verifier")
	self.addTo(cmd)
	cmd.Flags().StringVar(&check, "check", "127.0.0.1:8181", "where checks are answered")
	ways.addTo(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		self.name = server.name
		if err := self.check(); err != nil {
			return err
		}
		log := newLog(a.err, server.level).With("verifier", self.name, "pop", self.pop)
		return untilSignal(cmd.Context(), log, func(ctx context.Context, stop *stopping) error {
			return serveVerifier(ctx, stop, &server, &self, check, &ways)
		})
	}
	return cmd
}

func serveVerifier(ctx context.Context, stop *stopping, server *serverFlags, self *verifierFlags, check string, ways *otherWays) error {
	release, err := claimDirectory(server.data)
	if err != nil {
		return err
	}
	stop.then("directory", release)
	checks, err := listen("check", check)
	if err != nil {
		return err
	}
	stop.then("check address", closing(checks))
	admin, err := listen("admin", server.admin)
	if err != nil {
		return err
	}
	stop.then("admin address", closing(admin))
	if err := ways.bind(stop); err != nil {
		return err
	}
	nc, err := dial(server.nats, server.access, "keyfleet verifier "+server.name, stop.log)
	if err != nil {
		return err
	}
	stop.then("connection", func() error { nc.Close(); return nil })

	failed := make(chan error, 4)
	v := verifierParts{verifierFlags: *self, nc: nc, data: server.data, fail: func(err error) { failed <- err }}
	if err := v.start(ctx, stop); err != nil {
		return err
	}
	if inherited()["check"] != nil {
		v.awaitFirst(ctx)
	}
	if err := v.serve(stop, checks, admin); err != nil {
		return err
	}
	ways.serve(stop, &v)
	stop.log.Info("verifier runs", "nats", nc.ConnectedUrlRedacted(), "check", checks.Addr(), "admin", admin.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// verifierParts is what a verifier is made of.
type verifierParts struct {
	verifierFlags
	nc   *nats.Conn
	data string
	fail func(error) // hears if it cannot go on

	metrics  *prometheus.Registry // default: a new one
	verifier *verifier.Verifier
	caughtUp chan error // has nil in it once checks are answered, or why they never will be
}

// openTimeout bounds the search for the log at a start.
const openTimeout = 30 * time.Second

// start has the verifier running. It answers once it has caught up.
func (v *verifierParts) start(ctx context.Context, stop *stopping) error {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	log, err := eventlog.Open(opening, v.nc, eventlog.Options{ReadOnly: true, Mirror: v.mirror})
	if err != nil {
		return err
	}
	if v.metrics == nil {
		v.metrics = newMetrics()
	}
	v.caughtUp = make(chan error, 1)
	hub, err := uplink.New(v.nc, v.name)
	if err != nil {
		return err
	}
	run, err := v.runDir(v.data)
	if err != nil {
		return err
	}
	objects, err := eventlog.ReadSnapshots(v.nc, v.mirror)
	if err != nil {
		return err
	}
	v.verifier, err = verifier.Open(v.data, verifier.Options{
		Snapshots: objects, Reports: hub,
		Source: log, Uplink: hub, LogKeys: v.keys, Name: v.name, PoP: v.pop, Version: version, RunDir: run, ServeFor: v.serveBound(),
		Listen: v.hear, Log: stop.log, Metrics: v.metrics, Clock: machineClock,
	})
	if err != nil {
		return err
	}
	stop.then("verifier's index", v.verifier.Close)
	running, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := v.verifier.Run(running); err != nil {
			v.fail(fmt.Errorf("the verifier cannot go on: %w", err))
		}
	}()
	stop.then("verifier", func() error { end(); <-done; return nil })
	return nil
}

// heldFor is how long callers, whose connections wait while the verifier is restarted, are held until it has caught up.
const heldFor = 5 * time.Second

func (v *verifierParts) awaitFirst(ctx context.Context) {
	select {
	case <-v.caughtUp: //nolint:errcheck // or it never will, which hear was told: then callers are told so
	case <-time.After(heldFor):
	case <-ctx.Done():
	}
}

func (v *verifierParts) hear(e verifier.Event) {
	var outcome error
	switch e := e.(type) {
	case verifier.CaughtUp:
		if e.Was == verifier.Starting {
			go debug.FreeOSMemory() // of what it took to read the log; the runtime would keep it for minutes
		}
	case verifier.IndexQuarantined:
		outcome = fmt.Errorf("the verifier's index cannot be used: %w", e.Err)
	default:
		return
	}
	select {
	case v.caughtUp <- outcome:
	default:
	}
}

// serve answers checks, and operators.
func (v *verifierParts) serve(stop *stopping, checks, admin net.Listener) error {
	handler, err := httpcheck.New(v.verifier, httpcheck.Options{Log: stop.log, Metrics: v.metrics})
	if err != nil {
		return errors.Join(errors.New("set up checks over HTTP"), err)
	}
	serveHTTP(stop, "admin", admin, httpcheck.NewServer(httpcheck.NewAdmin(v.verifier, v.metrics)), stop.log, v.fail)
	serveHTTP(stop, "checks", checks, httpcheck.NewServer(handler), stop.log, v.fail)
	return nil
}
