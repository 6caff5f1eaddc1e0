package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxyProgram is a real proxy with the configuration that deploy/ ships for it.
type proxyProgram struct {
	name    string
	shipped []string          // files, in deploy/
	patches map[string]string // from what they say to what a test needs; SOCKET, DIR, CHECK and MODEL are filled in
	extra   map[string]string // files that the program needs beside them
	command []string          // its arguments
}

var proxyPrograms = []proxyProgram{{
	name:    "nginx",
	shipped: []string{"nginx/keyfleet.conf"},
	patches: map[string]string{"listen 8280;": "listen unix:SOCKET;", "127.0.0.1:8181": "CHECK", "127.0.0.1:8000": "MODEL"},
	extra: map[string]string{"nginx.conf": `
		daemon off; master_process off; pid DIR/pid; error_log stderr info;
		events {}
		http {
			access_log /dev/stderr; client_body_temp_path DIR/body; proxy_temp_path DIR/proxy;
			fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
			include DIR/keyfleet.conf;
		}`},
	command: []string{"-e", "stderr", "-c", "DIR/nginx.conf"},
}, {
	name:    "caddy",
	shipped: []string{"caddy/Caddyfile"},
	patches: map[string]string{
		"http://:8280 {": "http://:8280 {\n\tbind unix/SOCKET\n\tlog", "127.0.0.1:8181": "CHECK", "127.0.0.1:8000": "MODEL",
		"\tlog {": "\tadmin off\n\tlog {\n\t\tlevel debug",
	},
	command: []string{"run", "--adapter", "caddyfile", "--config", "DIR/Caddyfile"},
}, {
	name:    "haproxy",
	shipped: []string{"haproxy/haproxy.cfg", "haproxy/keyfleet.lua"},
	patches: map[string]string{
		"bind :8280": "bind unix@SOCKET", "127.0.0.1:8181": "CHECK", "127.0.0.1:8000": "MODEL",
		"lua-load /etc/haproxy/": "lua-load DIR/",
	},
	command: []string{"-f", "DIR/haproxy.cfg"},
}}

// proxy is one that runs, before a model that tells what reached it.
type proxy struct {
	*http.Client
	dev   *devProcess
	model *httptest.Server
	log   *lockedBuffer
}

func (p proxyProgram) start(t *testing.T) *proxy {
	t.Helper()
	requireProgram(t, p.name)
	running := &proxy{dev: startDev(t, filepath.Join(t.TempDir(), "data")), log: &lockedBuffer{}}
	running.model = httptest.NewServer(frankModel())
	t.Cleanup(running.model.Close)
	dir, err := os.MkdirTemp("", "kf") //nolint:usetesting // the path of a socket may not be long
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "proxy.sock")
	here := strings.NewReplacer("SOCKET", socket, "DIR", dir,
		"CHECK", strings.TrimPrefix(running.dev.Check, "http://"), "MODEL", running.model.Listener.Addr().String())
	for _, file := range p.shipped {
		text, err := os.ReadFile(filepath.Join("../../deploy", file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(here.Replace(p.patch(t, string(text)))), 0o600))
	}
	for name, text := range p.extra {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(here.Replace(text)), 0o600))
	}
	var args []string
	for _, arg := range p.command {
		args = append(args, here.Replace(arg))
	}
	cmd := exec.Command(p.name, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.Stdout, cmd.Stderr = running.log, running.log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, running.log)
		}
	})
	dial := &net.Dialer{}
	transport := &http.Transport{}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial.DialContext(ctx, "unix", socket) }
	t.Cleanup(transport.CloseIdleConnections)
	running.Client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	require.Eventually(t, func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			err = c.Close()
		}
		return err == nil
	}, 20*time.Second, 10*time.Millisecond, "%s does not listen", p.name)
	return running
}

// patch fits a shipped file to the test. What it does not find has been changed in the file.
func (p proxyProgram) patch(t *testing.T, text string) string {
	for from, to := range p.patches {
		if strings.Contains(text, from) {
			text = strings.Replace(text, from, to, 1)
		} else if len(p.shipped) == 1 {
			t.Errorf("%s no longer says %q", p.shipped[0], from)
		}
	}
	return text
}

func requireProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: .ci/needs installs it", name)
	}
	t.Skipf("%s is not here: .ci/needs installs it", name)
}

// arrival is a request as it reached the model.
type arrival struct {
	Method, URI, Body string
	Header            http.Header
}

// frankModel tells what reached it; in /status/N it fails, in /stream it waits to be read, in /socket it leaves
// HTTP and repeats what it hears.
func frankModel() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(arrival{r.Method, r.RequestURI, string(body), r.Header})
	})
	mux.HandleFunc("/status/{status}", func(w http.ResponseWriter, r *http.Request) {
		status := 0
		_, _ = fmt.Sscan(r.PathValue("status"), &status)
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, "the model's own")
	})
	next := make(chan struct{}, 1)
	mux.HandleFunc("/next", func(http.ResponseWriter, *http.Request) { next <- struct{}{} })
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") // to the key that the tests send
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(line))
		}
	})
	return mux
}
