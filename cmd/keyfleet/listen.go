package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// inherited are listeners that systemd holds for this process, through its restarts, by the names of the flags that they stand for:
// see sd_listen_fds(3).
var inherited = sync.OnceValue(func() map[string]net.Listener {
	const first = 3
	held := map[string]net.Listener{}
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return held
	}
	handed, _ := strconv.Atoi(os.Getenv("LISTEN_FDS")) // no number: nothing was
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i, name := range names[:max(0, min(handed, len(names)))] {
		file := os.NewFile(uintptr(first+i), name)
		if l, err := net.FileListener(file); err == nil {
			held[name] = l
		}
		_ = file.Close() // the listener has a copy
	}
	return held
})

// listen binds an address that a flag gave, unless a listener for it was inherited. Errors name the flag.
func listen(flag, address string) (net.Listener, error) {
	if l := inherited()[flag]; l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", bare(address))
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, unavailableError("--%s: something listens at %s already; stop it, or give another address (port 0 picks a free one)", flag, bare(address))
	default:
		return nil, flagError(flag, "cannot listen at %q: %v", bare(address), err)
	}
}

// closing forgives a listener that its server has closed already.
func closing(l io.Closer) func() error {
	return func() error { _ = l.Close(); return nil }
}

// loopback gives the address in the form that listen takes, unless it can be reached from elsewhere.
func loopback(flag, address string) (string, error) {
	host, port, err := net.SplitHostPort(bare(address))
	if err != nil {
		return "", flagError(flag, "%q is no address; write host:port, such as 127.0.0.1:0", address)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return "", flagError(flag, "%s can be reached from elsewhere, and dev lets in whoever comes; give a loopback address such as 127.0.0.1:%s",
			bare(address), port)
	}
	return net.JoinHostPort(host, port), nil
}

// drainTime is how long requests under way may take, where nothing else was said.
const drainTime = 5 * time.Second

// serveHTTP answers on l until the step that it adds to s is taken. fail hears if it ends otherwise.
func serveHTTP(s *stopping, what string, l net.Listener, server *http.Server, log *slog.Logger, fail func(error)) {
	serveAndDrain(s, what, l, server, log, fail, drainTime)
}

// serveAndDrain says how long requests under way may take once it is time to stop.
func serveAndDrain(s *stopping, what string, l net.Listener, server *http.Server, log *slog.Logger, fail func(error), drain time.Duration) {
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fail(err)
		}
	}()
	s.thenWithin(drain+stopPatience, what, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		err := server.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		<-done
		return err
	})
}

// newServer is for handlers that read bodies and stream answers.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
}
