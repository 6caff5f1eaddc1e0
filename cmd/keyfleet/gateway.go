package main

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/verifier/gateway"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

// gatewayFlags say what a gateway serves, and how.
type gatewayFlags struct {
	server  serverFlags
	self    verifierFlags
	listen  string
	tls     certificateFiles
	drain   time.Duration
	options gateway.Options
}

func (a *app) gatewayCommand() *cobra.Command {
	var g gatewayFlags
	cmd := &cobra.Command{
		Use:   "gateway --name NAME --log-key KEY",
		Short: "Run a gateway: a reverse proxy that checks keys by itself",
		Long: `Runs a reverse proxy before the upstreams of a project's deployments, with a verifier in it, which is a member of the fleet.

Requests for /DEPLOYMENT/…, or for the host name that a deployment is registered with, go to its upstream once their key was
checked, and without it. Deployments are as the log has them: what is registered or edited is served at once. Streams,
WebSockets and HTTP/2 pass. What is under way is cut within a second of a revocation or an expiry.`,
		Args: cobra.NoArgs,
	}
	g.server.addTo(cmd, "./keyfleet-gateway")
	g.self.addTo(cmd)
	f := cmd.Flags()
	f.StringVar(&g.listen, "gateway", "127.0.0.1:8280", "where callers come in")
	f.StringVar(&g.options.Project, "project", defaultProject, "whose deployments are served")
	f.StringVar(&g.tls.cert, "tls-cert", "", "file with the certificate chain, read again when it changes")
	f.StringVar(&g.tls.key, "tls-key", "", "file with its private key")
	f.Int64Var(&g.options.MaxBody, "max-body", 32<<20, "largest request body, in bytes")
	f.BoolVar(&g.options.Finish, "finish", false, "let open streams finish after their key was revoked or has expired")
	f.DurationVar(&g.drain, "drain", 30*time.Second, "how long requests under way may take at a stop")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		g.self.name = g.server.name
		if err := g.self.check(); err != nil {
			return err
		}
		if (g.tls.cert == "") != (g.tls.key == "") {
			return flagError("tls-cert", "it goes together with --tls-key")
		}
		log := newLog(a.err, g.server.level).With("gateway", g.self.name, "pop", g.self.pop)
		return untilSignal(cmd.Context(), log, func(ctx context.Context, stop *stopping) error { return serveGateway(ctx, stop, &g) })
	}
	return cmd
}

func serveGateway(ctx context.Context, stop *stopping, g *gatewayFlags) error {
	release, err := claimDirectory(g.server.data)
	if err != nil {
		return err
	}
	stop.then("directory", release)
	callers, err := g.bind(stop)
	if err != nil {
		return err
	}
	admin, err := listen("admin", g.server.admin)
	if err != nil {
		return err
	}
	stop.then("admin address", closing(admin))
	nc, err := dial(g.server.nats, g.server.access, "keyfleet gateway "+g.self.name, stop.log)
	if err != nil {
		return err
	}
	stop.then("connection", func() error { nc.Close(); return nil })

	failed := make(chan error, 4)
	fail := func(err error) { failed <- err }
	v := verifierParts{verifierFlags: g.self, nc: nc, data: g.server.data, fail: fail, metrics: newMetrics()}
	if err := v.start(ctx, stop); err != nil {
		return err
	}
	g.options.Log = stop.log
	serveHTTP(stop, "admin", admin, httpcheck.NewServer(httpcheck.NewAdmin(v.verifier, v.metrics)), stop.log, fail)
	serveAndDrain(stop, "gateway", callers, gateway.NewServer(gateway.New(v.verifier, g.options)), stop.log, fail, g.drain)
	stop.log.Info("gateway runs", "nats", nc.ConnectedUrlRedacted(), "gateway", callers.Addr(), "admin", admin.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// bind listens for callers, with TLS if there is a certificate.
func (g *gatewayFlags) bind(stop *stopping) (net.Listener, error) {
	l, err := listen("gateway", g.listen)
	if err != nil {
		return nil, err
	}
	stop.then("gateway address", closing(l))
	if g.tls.cert == "" {
		return l, nil
	}
	c, err := readCertificate(g.tls, stop.log)
	if err != nil {
		return nil, flagError("tls-cert", "%v", err)
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"},
	}), nil
}
