package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

var pops = []string{"ams", "fra", "sin"}

// within does something as a process on that host would.
func (top *topology) within(host string, do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	there, err := os.Open("/run/netns/" + top.net + "-" + host)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	defer func() {
		if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread is of no use to anybody else
		}
	}()
	return do()
}

// caller dials from a host.
type caller struct {
	*topology
	host string
}

func (c caller) Dial(network, address string) (net.Conn, error) {
	return c.dial(context.Background(), network, address)
}

func (c caller) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = c.within(c.host, func() (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// connect connects to the hub.
func (top *topology) connect(creds string) *nats.Conn {
	top.t.Helper()
	fleet := filepath.Join(top.bin, "topology", "fleet")
	as := access{creds: filepath.Join(fleet, creds+".creds"), tlsCA: filepath.Join(fleet, "hub/ca.crt")}
	opts, err := as.options()
	require.NoError(top.t, err)
	opts = append(opts, nats.SetCustomDialer(caller{top, "hub1"}), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.IgnoreDiscoveredServers())
	nc, err := nats.Connect("nats://10.77.0.1:4222,nats://10.77.0.2:4222,nats://10.77.0.3:4222", opts...)
	require.NoError(top.t, err)
	top.t.Cleanup(nc.Close)
	return nc
}

func (top *topology) admin() *natsapi.Client {
	top.t.Helper()
	return natsapi.NewClient(top.connect("admins/demo.alice"), "demo", "alice")
}

// checks is a load of checks of one key, by a gateway at the PoP. Whatever is no 200 has failed. Those under way when ctx ends are
// finished, here and in commands.
func (top *topology) checks(ctx context.Context, pop, key string, perSecond float64, long time.Duration) (*openloop.Outcome, error) {
	gateway := &http.Client{Transport: &http.Transport{DialContext: caller{top, pop}.dial, MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}
	defer gateway.CloseIdleConnections()
	return openloop.Load{Rate: perSecond, For: long, Workers: 16}.Run(ctx, func(context.Context, int) (openloop.Operation, error) {
		return func(ctx context.Context, _ int64) error {
			request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, "http://127.0.0.1:8181/v1/check/demo/llama", nil)
			if err != nil {
				return err
			}
			request.Header.Set("x-api-key", key)
			answer, err := gateway.Do(request)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: status %d", pop, answer.StatusCode)
			}
			return nil
		}, nil
	})
}

// commands is a load of keys that are created. Each is one command, however often it has to be sent.
func (top *topology) commands(ctx context.Context, prefix string, perSecond float64, long time.Duration) (*openloop.Outcome, error) {
	return openloop.Load{Rate: perSecond, For: long, Workers: 64, Patience: time.Minute}.Run(ctx, func(context.Context, int) (openloop.Operation, error) {
		admin := top.admin()
		return func(ctx context.Context, i int64) error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			return admin.Do(ctx, registry.KeyCreate, registry.Request{Name: fmt.Sprintf("%s-%d", prefix, i)}, nil)
		}, nil
	})
}

// heldVerifier is a PoP's verifier as systemd runs it: whoever restarts it holds its address.
type heldVerifier struct {
	*topology
	pop    string
	socket *os.File
	cmd    *exec.Cmd
}

// hold takes the place of the verifier that the topology runs.
func (top *topology) hold(pop string) *heldVerifier {
	top.t.Helper()
	top.must("stop", "verifier-"+pop)
	h := &heldVerifier{topology: top, pop: pop}
	require.NoError(top.t, top.within(pop, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:8181")
		if err == nil {
			h.socket, err = l.(*net.TCPListener).File()
			_ = l.Close()
		}
		return err
	}))
	h.start()
	top.t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
		_ = h.socket.Close()
	})
	return h
}

func (h *heldVerifier) start() {
	h.t.Helper()
	words, err := os.ReadFile(filepath.Join(h.bin, "topology", "verifier-"+h.pop+".cmd"))
	require.NoError(h.t, err)
	command := strings.TrimPrefix(string(words), h.pop)
	log, err := os.OpenFile(filepath.Join(h.bin, "topology", "verifier-"+h.pop+".log"), os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(h.t, err)
	defer log.Close()
	h.cmd = exec.Command("bash", "-c", "LISTEN_PID=$$ exec ip netns exec "+h.net+"-"+h.pop+command)
	h.cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=check")
	h.cmd.ExtraFiles = []*os.File{h.socket}
	h.cmd.Stdout, h.cmd.Stderr = log, log
	require.NoError(h.t, h.cmd.Start())
}

func (h *heldVerifier) restart() {
	h.t.Helper()
	require.NoError(h.t, h.cmd.Process.Signal(syscall.SIGTERM))
	_ = h.cmd.Wait()
	h.start()
}

// settled waits until no alarm is left and everybody serves.
func (top *topology) settled() {
	top.t.Helper()
	top.eventually("everybody serves", func() bool {
		said, _, status := top.do("", "keyfleet", "fleet")
		return status == statusDone && strings.Count(said, "  serving  ") == len(pops)
	})
}

// upgrade restarts every process of the fleet, one after the other, under load, and gives what became of that.
func (top *topology) upgrade(key string, perSecond float64) (checks []*openloop.Outcome, commands *openloop.Outcome) {
	top.t.Helper()
	verifiers := make([]*heldVerifier, 0, len(pops))
	for _, pop := range pops {
		verifiers = append(verifiers, top.hold(pop))
	}
	top.settled()
	ctx, end := context.WithCancel(top.t.Context())
	defer end()
	type result struct {
		outcome *openloop.Outcome
		err     error
	}
	const longest = 5 * time.Minute
	results := make(chan result, len(pops))
	commanded := make(chan result, 1)
	for _, pop := range pops {
		go func() {
			outcome, err := top.checks(ctx, pop, key, perSecond, longest)
			results <- result{outcome, err}
		}()
	}
	go func() {
		outcome, err := top.commands(ctx, "upgrade", perSecond, longest)
		commanded <- result{outcome, err}
	}()
	for _, program := range []string{"registry1", "registry2", "hub1", "hub2", "hub3", "nats-ams", "nats-fra", "nats-sin"} {
		top.must("stop", program)
		top.must("start", program)
		top.eventually("all that is kept is there", top.complete)
		top.settled()
	}
	for _, v := range verifiers {
		v.restart()
		top.settled()
	}
	end()
	for range pops {
		r := <-results
		require.NoError(top.t, r.err)
		checks = append(checks, r.outcome)
	}
	r := <-commanded
	require.NoError(top.t, r.err)
	return checks, r.outcome
}
