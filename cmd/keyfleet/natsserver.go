package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsReady bounds the start of the embedded server, the reading of its files included.
const natsReady = 30 * time.Second

// startNATS runs a NATS server in this process, with JetStream in dir, for the host and port of reserved, which it
// takes over. It listens nowhere else. Every write is on disk before it is acknowledged.
func startNATS(dir string, reserved net.Listener, log *slog.Logger) (*server.Server, error) {
	at, ok := reserved.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.New("the NATS address is not one of TCP")
	}
	ns, err := server.NewServer(&server.Options{
		ServerName: "keyfleet-dev",
		Host:       at.IP.String(),
		Port:       at.Port,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: true,
		// A machine of a newcomer has no room to reserve, and the log must not meet a limit that nobody set.
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  1 << 50,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the NATS server: %w", err)
	}
	logger := &natsLog{log: log}
	ns.SetLoggerV2(logger, false, false, false)
	if err := reserved.Close(); err != nil {
		return nil, err
	}
	ns.Start()
	if !ns.ReadyForConnections(natsReady) {
		ns.Shutdown()
		return nil, unavailableError("the NATS server in %s does not start: %s", dir, logger.worst())
	}
	return ns, nil
}

// stopNATS ends the server once what it holds is on disk.
func stopNATS(ns *server.Server) error {
	ns.Shutdown()
	ns.WaitForShutdown()
	return nil
}

// syncsAlways answers eventlog's question for the server in this process.
func syncsAlways(ns *server.Server) func(context.Context, []string) error {
	return func(context.Context, []string) error {
		if config := ns.JetStreamConfig(); config == nil || !config.SyncAlways {
			return errors.New("the NATS server in this process does not sync every write")
		}
		return nil
	}
}

// natsLog makes lines of our log of the server's: what it notes is for debugging here.
type natsLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	last string // and worst thing said
}

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l *natsLog) Debugf(string, ...any)           {}
func (l *natsLog) Tracef(string, ...any)           {}

func (l *natsLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
	l.log.Warn("nats: " + text)
	if strings.Contains(text, "ritical write error") {
		l.log.Error("the NATS server cannot write to its disk any more, and does not try again by itself: make room and start it again; nothing that was acknowledged is lost")
	}
}

// Fatalf does not end the process, as the server's own logger would: whoever started it sees that it is not ready.
func (l *natsLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }

func (l *natsLog) worst() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return fmt.Sprintf("not within %s", natsReady)
	}
	return l.last
}
