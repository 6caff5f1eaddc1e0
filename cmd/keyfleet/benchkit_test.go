package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// bareServers answer over HTTP and gRPC without a thought: what the others are measured beside, and forward to.
func bareServers() {
	overHTTP, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	overGRPC, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, bareAnswer{})
	go func() { _ = s.Serve(overGRPC) }()
	fmt.Println(overHTTP.Addr(), overGRPC.Addr())
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	_ = (&http.Server{Handler: hello, ReadHeaderTimeout: time.Minute}).Serve(overHTTP)
}

type bareAnswer struct {
	authv3.UnimplementedAuthorizationServer
}

func (bareAnswer) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, nil
}

type bareProcess struct{ http, grpc string }

func startBare(b *testing.B) *bareProcess {
	cmd := exec.Command("bare")
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p := &bareProcess{}
	_, err = fmt.Fscan(stdout, &p.http, &p.grpc)
	require.NoError(b, err)
	return p
}

// benchProxy is a proxy as BenchmarkGateways has it: the shipped one, or one that asks nobody.
type benchProxy struct {
	name, program, config string
	command               []string
}

const plainNginx = `daemon off; worker_processes 2; pid DIR/pid; error_log stderr error;
events { worker_connections 1024; }
http {
	access_log off; client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
	keepalive_requests 100000000;
`

const plainCaddy = "{\n\tadmin off\n\tauto_https off\n\tlog {\n\t\tlevel ERROR\n\t}\n}\nhttp://ADDRESS {\n\treverse_proxy MODEL\n}\n"

var benchProxies = []benchProxy{
	{"nginx alone", "nginx", plainNginx + "upstream m { server MODEL; keepalive 64; } server { listen ADDRESS; location / { proxy_pass http://m; proxy_http_version 1.1; proxy_set_header Connection ''; } } }",
		[]string{"-e", "stderr", "-c", "DIR/config"}},
	{"nginx with checks", "nginx", plainNginx + "SHIPPED nginx/keyfleet.conf\n}", []string{"-e", "stderr", "-c", "DIR/config"}},
	{"Caddy alone", "caddy", plainCaddy, []string{"run", "--adapter", "caddyfile", "--config", "DIR/config"}},
	{"Caddy with checks", "caddy", "SHIPPED caddy/Caddyfile\n", []string{"run", "--adapter", "caddyfile", "--config", "DIR/config"}},
}

func (p benchProxy) start(b *testing.B, check, model string) (url string) {
	requireProgram(b, p.program)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	address := free.Addr().String()
	require.NoError(b, free.Close())
	dir := b.TempDir()
	config := p.config
	if before, rest, ok := strings.Cut(config, "SHIPPED "); ok {
		file, after, _ := strings.Cut(rest, "\n")
		text, err := os.ReadFile(filepath.Join("../../deploy", file))
		require.NoError(b, err)
		config = before + strings.NewReplacer("demo/echo-model", "demo/bare", "127.0.0.1:8181", "CHECK", "127.0.0.1:8000", "MODEL",
			"listen 8280;", "listen ADDRESS;", "http://:8280", "http://ADDRESS", "\tlog {", "\tadmin off\n\tlog {\n\t\tlevel ERROR").Replace(string(text)) + after
	}
	here := strings.NewReplacer("DIR", dir, "ADDRESS", address, "MODEL", model, "CHECK", check)
	require.NoError(b, os.WriteFile(filepath.Join(dir, "config"), []byte(here.Replace(config)), 0o600))
	var args []string
	for _, arg := range p.command {
		args = append(args, here.Replace(arg))
	}
	cmd := exec.Command(p.program, args...)
	said := &lockedBuffer{}
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "HOME="+dir), said, said
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }) // which ends nginx's workers, too
	require.Eventually(b, func() bool { _, err := getStatus("http://"+address+"/", ""); return err == nil }, 10*time.Second, 20*time.Millisecond, said)
	return "http://" + address
}

func getStatus(url, key string) (int, error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("X-Api-Key", key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// probe is one request on a connection of its own.
type probe func() error

// httpProbe speaks just enough HTTP/1.1 to cost little beside the server.
func httpProbe(b *testing.B, at, key string, want ...int) func() probe {
	u, err := url.Parse(at)
	require.NoError(b, err)
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\n\r\n", u.Path, u.Host, key)
	return func() probe {
		conn, err := net.Dial("tcp", u.Host)
		require.NoError(b, err)
		b.Cleanup(func() { _ = conn.Close() })
		in := bufio.NewReader(conn)
		return func() error {
			if _, err := conn.Write(request); err != nil {
				return err
			}
			status, err := readAnswer(in)
			if err == nil && !slices.Contains(want, status) {
				err = fmt.Errorf("%s answers %d", at, status)
			}
			return err
		}
	}
}

func readAnswer(in *bufio.Reader) (status int, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return 0, err
		case first && len(line) > 12:
			status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
		case len(line) > 16 && strings.EqualFold(string(line[:16]), "content-length: "):
			_, err = fmt.Sscan(string(line[16:]), &length)
		case len(line) == 2:
			_, err = in.Discard(length)
			return status, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// measure sends b.N requests over the connections, and reports how many a second and how long they take.
func measure(b *testing.B, connections int, open func() probe) {
	probes := make([]probe, connections)
	for i := range probes {
		probes[i] = open()
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, connections)
	var all sync.WaitGroup
	b.ResetTimer()
	for i, ask := range probes {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				begun := time.Now()
				if err := ask(); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(begun))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	reportLatencies(b, slices.Concat(took...))
}

func reportLatencies(b *testing.B, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// steady sends b.N requests, 500 a second, whether or not the one before was answered in time: what had to wait counts.
func steady(b *testing.B, open func() probe) {
	const connections, every = 8, 16 * time.Millisecond
	took := make([][]time.Duration, connections)
	var all sync.WaitGroup
	for i := range connections {
		ask := open()
		all.Go(func() {
			due := time.Now().Add(time.Duration(i) * every / connections)
			for range (b.N + connections - 1) / connections {
				time.Sleep(time.Until(due))
				if err := ask(); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(due))
				due = due.Add(every)
			}
		})
	}
	all.Wait()
	reportLatencies(b, slices.Concat(took...))
}

// scan sends requests over 64 connections as fast as they are answered, until ctx ends, and then tells how many.
func scan(ctx context.Context, b *testing.B, open func() probe) <-chan int64 {
	var sent atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		ask := open()
		all.Go(func() {
			for ctx.Err() == nil {
				if err := ask(); err != nil {
					b.Error(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	total := make(chan int64, 1)
	go func() { all.Wait(); total <- sent.Load() }()
	return total
}
