package eventlogtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Server is a NATS server inside the test process, with JetStream on files that syncs always. Anyone may connect, to
// the global account.
type Server struct {
	t      testing.TB
	opts   server.Options // as it is started each time
	server *server.Server // nil while it is stopped
}

// startTimeout is generous: elections on a loaded machine with a slow disk take seconds.
const startTimeout = 30 * time.Second

const (
	anyone   = "anyone"
	operator = "operator"
)

// StartServer runs a server until the test ends, on a free port of the loopback interface and in a directory of its own.
// The options may be changed before it starts.
func StartServer(t testing.TB, change ...func(*server.Options)) *Server {
	t.Helper()
	s := newServer(t)
	for _, f := range change {
		f(&s.opts)
	}
	s.Start()
	return s
}

func newServer(t testing.TB) *Server {
	s := &Server{t: t, opts: server.Options{
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		NoLog:      true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   t.TempDir(),
		SyncAlways: true,
		NoAuthUser: anyone,
	}}
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop, on the same port and directory.
func (s *Server) Start() {
	s.t.Helper()
	s.launch()
	if !s.server.ReadyForConnections(startTimeout) {
		s.t.Fatal("the NATS server does not get ready")
	}
}

func (s *Server) launch() {
	s.t.Helper()
	opts := s.opts
	system := server.NewAccount(server.DEFAULT_SYSTEM_ACCOUNT)
	opts.SystemAccount, opts.Accounts = system.Name, []*server.Account{system}
	opts.Users = []*server.User{
		{Username: anyone, Password: anyone},
		{Username: operator, Password: operator, Account: system},
	}
	started, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatalf("start a NATS server: %v", err)
	}
	s.server = started
	started.Start()
	if addr, ok := started.Addr().(*net.TCPAddr); ok {
		s.opts.Port = addr.Port // clients that reconnect expect it where it was
	}
	if z, err := started.Varz(nil); err == nil && s.opts.LeafNode.Port != 0 {
		s.opts.LeafNode.Port = z.LeafNode.Port
	}
}

// Stop stops the server, if it runs, and keeps its directory.
func (s *Server) Stop() {
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
		s.server = nil
	}
}

// Name is the server's name, as streams list those that keep them.
func (s *Server) Name() string { return s.server.Name() }

// ClientURL is where clients connect.
func (s *Server) ClientURL() string { return fmt.Sprintf("nats://%s:%d", s.opts.Host, s.opts.Port) }

// LeafURLs is where leaf nodes connect, if an option made the server listen for them.
func (s *Server) LeafURLs() []*url.URL {
	return []*url.URL{{Scheme: "nats", Host: fmt.Sprintf("%s:%d", s.opts.Host, s.opts.LeafNode.Port)}}
}

// Connect gives a connection that lasts as long as the test and comes back soon after every cut.
func (s *Server) Connect(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	return Connect(s.t, s.ClientURL(), opts...)
}

// ConnectSystem gives a connection to the system account.
func (s *Server) ConnectSystem() *nats.Conn {
	s.t.Helper()
	return s.Connect(nats.UserInfo(operator, operator))
}

// SyncAlways is for eventlog.Options: it looks at the server itself.
func (s *Server) SyncAlways(context.Context, []string) error {
	if !s.server.JetStreamConfig().SyncAlways {
		return fmt.Errorf("server %s does not sync every write", s.Name())
	}
	return nil
}

// Connect gives a connection to any URL that lasts as long as the test and comes back soon after every cut.
func Connect(t testing.TB, natsURL string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	opts = append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0)}, opts...)
	nc, err := nats.Connect(natsURL, opts...)
	if err != nil {
		t.Fatalf("connect to %s: %v", natsURL, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// StartCluster runs servers that replicate streams among each other, until the test ends.
func StartCluster(t testing.TB, size int) []*Server {
	t.Helper()
	ports := freePorts(t, size)
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	var servers []*Server
	for i, port := range ports {
		s := newServer(t)
		s.opts.ServerName = fmt.Sprintf("n%d", i+1)
		s.opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}
		s.opts.Routes = routes
		s.launch()
		servers = append(servers, s)
	}
	for _, s := range servers {
		if !s.server.ReadyForConnections(startTimeout) {
			t.Fatal("a NATS server does not get ready")
		}
	}
	await(t, "the cluster to elect a leader", func() bool {
		return slices.ContainsFunc(servers, func(s *Server) bool {
			return s.server.JetStreamIsLeader() && len(s.server.JetStreamClusterPeers()) == size
		})
	})
	return servers
}

// freePorts finds ports that nobody listens on. Routes must be known before the first server starts.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	var held []net.Listener // all at once, so that no port is found twice
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		if addr, ok := l.Addr().(*net.TCPAddr); ok {
			ports = append(ports, addr.Port)
		}
	}
	for _, l := range held {
		_ = l.Close()
	}
	return ports
}

// await polls, for conditions that nothing announces.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(startTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
