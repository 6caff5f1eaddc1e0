package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spf13/cobra"
)

// serveCommand runs servers that are no part of Keyfleet, each in a process of its own, as they would be.
func serveCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "serve", Short: "Run a server that the scenarios need beside Keyfleet", Hidden: true}
	var dir string
	natsServer := &cobra.Command{
		Use: "nats", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := startNATS(dir)
			if err != nil {
				return err
			}
			announce("nats", "nats", strings.TrimPrefix(ns.ClientURL(), "nats://"))
			<-cmd.Context().Done()
			ns.Shutdown()
			ns.WaitForShutdown()
			return nil
		},
	}
	natsServer.Flags().StringVar(&dir, "data", "", "directory")
	upstream := &cobra.Command{
		Use: "upstream", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			s := &http.Server{Handler: http.HandlerFunc(hello), ReadHeaderTimeout: time.Minute}
			go func() { <-cmd.Context().Done(); _ = s.Close() }()
			announce("upstream", "http", l.Addr().String())
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
	cmd.AddCommand(natsServer, upstream, incumbentsCommand(), indexCommand())
	return cmd
}

// hello is what a model says that costs nothing to run.
func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// announce says that a server is there, as Keyfleet's own do.
func announce(what string, addresses ...any) {
	slog.New(slog.NewTextHandler(os.Stderr, nil)).Info(what+" runs", addresses...)
}

// The users of the stand's NATS server: everybody, and whoever asks it for its settings.
const (
	anyone   = "anyone"
	operator = "operator"
)

// startNATS runs a server that has every write on disk before it acknowledges it.
func startNATS(dir string) (*server.Server, error) {
	system := server.NewAccount(server.DEFAULT_SYSTEM_ACCOUNT)
	ns, err := server.NewServer(&server.Options{
		ServerName: "loadtest", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, SyncAlways: true, JetStreamMaxMemory: 4 << 30, JetStreamMaxStore: 1 << 50,
		SystemAccount: system.Name, Accounts: []*server.Account{system}, NoAuthUser: anyone,
		Users: []*server.User{{Username: anyone, Password: anyone}, {Username: operator, Password: operator, Account: system}},
	})
	if err != nil {
		return nil, err
	}
	ns.Start()
	if !ns.ReadyForConnections(startTimeout) {
		ns.Shutdown()
		return nil, fmt.Errorf("the NATS server in %s does not start", dir)
	}
	return ns, nil
}
