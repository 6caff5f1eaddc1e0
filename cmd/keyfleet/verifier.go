package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

func (a *app) verifierCommand() *cobra.Command {
	var server serverFlags
	var pop, check string
	cmd := &cobra.Command{
		Use:   "verifier",
		Short: "Run a verifier: it answers checks from an index of its own",
		Long: `Runs a verifier, which follows the log into an index of its own and answers checks over HTTP without asking anybody.

Until the registry signs leases, a verifier grants itself one each second, from the log's newest commit as the NATS
server tells it: cut off from that server it answers for ten minutes more. Nobody counts it as a member of the fleet,
and no revocation waits for it; its name and PoP are only in its log.`,
		Args: cobra.NoArgs,
	}
	server.addTo(cmd, "./keyfleet-verifier")
	cmd.Flags().StringVar(&pop, "pop", "", "site where it runs, for people")
	cmd.Flags().StringVar(&check, "check", "127.0.0.1:8181", "where checks are answered")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log := newLog(a.err, server.level).With("verifier", server.name, "pop", pop)
		return untilSignal(cmd.Context(), log, func(ctx context.Context, stop *stopping) error {
			return serveVerifier(ctx, stop, &server, check)
		})
	}
	return cmd
}

func serveVerifier(ctx context.Context, stop *stopping, server *serverFlags, check string) error {
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
	nc, err := dial(server.nats, server.creds, "keyfleet verifier "+server.name, stop.log)
	if err != nil {
		return err
	}
	stop.then("connection", func() error { nc.Close(); return nil })

	failed := make(chan error, 4)
	v := verifierParts{nc: nc, data: server.data, fail: func(err error) { failed <- err }}
	if err := v.start(ctx, stop); err != nil {
		return err
	}
	if err := v.serve(stop, checks, admin); err != nil {
		return err
	}
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
	log, err := eventlog.Open(opening, v.nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	if v.metrics == nil {
		v.metrics = prometheus.NewRegistry()
	}
	v.caughtUp = make(chan error, 1)
	v.verifier, err = verifier.Open(v.data, verifier.Options{
		Source: log, Uplink: verifier.LocalUplink{Log: log}, Listen: v.hear, Log: stop.log, Metrics: v.metrics,
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

func (v *verifierParts) hear(e verifier.Event) {
	var outcome error
	switch e := e.(type) {
	case verifier.CaughtUp:
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
