package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events/clock"
)

// machineClock is the system's, but in tests of machines whose clocks are wrong.
var machineClock clock.Clock = clock.System{}

// serverFlags are what registry and verifier have in common.
type serverFlags struct {
	access
	nats  string
	data  string
	name  string
	admin string
	level slog.Level
}

func (s *serverFlags) addTo(cmd *cobra.Command, data string) {
	f := cmd.Flags()
	f.StringVar(&s.nats, "nats", defaultNATS, "NATS servers that keep the log; with commas between several")
	s.access.addTo(f)
	f.StringVar(&s.data, "data", data, "directory of its own, made if it is not there")
	f.StringVar(&s.name, "name", "", "name, for people")
	f.StringVar(&s.admin, "admin", "127.0.0.1:8182", "where /livez, /readyz, /metrics and /debug/ are served: not to callers")
	addLogLevel(cmd, &s.level)
}

func addLogLevel(cmd *cobra.Command, level *slog.Level) {
	cmd.Flags().TextVar(level, "log-level", slog.LevelInfo, "debug, info, warn or error")
}

func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// dial connects a server. It comes back by itself after every cut, for as long as it takes.
func dial(url string, as access, name string, log *slog.Logger, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.PingInterval(5 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "connection", name, "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connected to NATS again", "connection", name) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("NATS reports a fault", "connection", name, "error", err)
		}),
	}, more...)
	signIn, err := as.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(url, append(opts, signIn...)...)
	if err != nil {
		return nil, unavailableError("cannot talk to NATS at %s: %v; is it running, and do the credentials fit?", withoutPassword(url), err)
	}
	return nc, nil
}

// untilSignal runs a server until it fails, or until the process is asked to end. A second signal kills.
func untilSignal(ctx context.Context, log *slog.Logger, serve func(context.Context, *stopping) error) error {
	ctx, forget := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer forget()
	context.AfterFunc(ctx, forget) // so that the next signal finds the usual, deadly handler
	stop := &stopping{log: log}
	err := serve(ctx, stop)
	if ctx.Err() != nil {
		forget()
		log.Info("stopping; a second signal kills")
		err = nil
	}
	return errors.Join(err, stop.stop())
}

// stopping undoes what was started, the last first.
type stopping struct {
	log   *slog.Logger
	steps []stopStep
}

type stopStep struct {
	what     string
	do       func() error
	patience time.Duration
}

// stopPatience is how long a part may take to stop. One on a disk that fails may wait for good.
const stopPatience = 30 * time.Second

func (s *stopping) then(what string, do func() error) { s.thenWithin(stopPatience, what, do) }

func (s *stopping) thenWithin(patience time.Duration, what string, do func() error) {
	s.steps = append(s.steps, stopStep{what, do, patience})
}

// stop leaves alone what depends on a part that does not stop: the process ends, and a crash costs nothing that was
// acknowledged.
func (s *stopping) stop() error {
	for _, step := range slices.Backward(s.steps) {
		s.log.Debug("stopping", "part", step.what)
		done := make(chan error, 1)
		go func() { done <- step.do() }()
		select {
		case err := <-done:
			if err != nil {
				s.log.Warn("did not stop cleanly", "part", step.what, "error", err)
			}
		case <-time.After(step.patience):
			return unavailableError("%s has not stopped within %s: the process ends all the same, and loses nothing that was acknowledged", step.what, step.patience)
		}
	}
	s.steps = nil
	return nil
}

// bare leaves out the scheme: an address to listen at may be given as the URL that clients use.
func bare(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	}
	return strings.TrimRight(address, "/")
}

// flagError is a usageError about a flag.
func flagError(flag, format string, args ...any) error {
	return usageError("--%s: %s", flag, fmt.Sprintf(format, args...))
}
