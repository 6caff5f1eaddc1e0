package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/socket"
)

// stand is everything that BenchmarkGateways compares, each in a process of its own, on one machine.
type stand struct {
	key             string
	bare            *bareProcess
	verifier        *serverProcess
	gateway, socket string
}

func newStand(b *testing.B) *stand {
	dir := b.TempDir()
	s := &stand{bare: startBare(b), socket: filepath.Join(dir, "check.sock")}
	dev := startDev(b, filepath.Join(dir, "dev"), "--log-level", "error")
	_, status := dev.keyfleet(b, "", "deployments", "register", "bare", "--upstream", "http://"+s.bare.http)
	require.Equal(b, statusDone, status)
	s.key, _ = dev.newKey(b, "good", "bare")
	signing, err := readSigningKey(filepath.Join(dev.data, "signing.pem"))
	require.NoError(b, err)
	start := func(role string, more ...string) *serverProcess {
		return startServer(b, append([]string{role, "--name", role, "--log-key", publicHalf(signing).String(), "--nats", dev.NATS,
			"--data", filepath.Join(dir, role), "--admin", "127.0.0.1:0"}, more...)...)
	}
	s.verifier = start("verifier", "--check", "127.0.0.1:0", "--socket", s.socket, "--ext-authz", "127.0.0.1:0")
	s.gateway = start("gateway", "--gateway", "127.0.0.1:0").addresses["gateway"]
	require.Eventually(b, func() bool {
		checked, _ := getStatus(s.check(), s.key)
		passed, _ := getStatus(s.gateway+"/bare/", s.key)
		return checked == 200 && passed == 200
	}, 20*time.Second, 50*time.Millisecond)
	return s
}

func (s *stand) check() string { return s.verifier.addresses["check"] + "/v1/check/demo/bare" }

// BenchmarkGateways has 64 connections send requests, each the next when it has its answer.
func BenchmarkGateways(b *testing.B) {
	s := newStand(b)
	model := "http://" + s.bare.http
	overHTTP := func(name, url string) {
		b.Run(name, func(b *testing.B) { measure(b, 64, httpProbe(b, url, s.key, 200)) })
	}
	overHTTP("bare net/http", model+"/")
	overHTTP("check over HTTP", s.check())
	b.Run("bare gRPC", func(b *testing.B) { measure(b, 64, grpcProbe(b, s.bare.grpc, s.key)) })
	b.Run("ext_authz", func(b *testing.B) {
		measure(b, 64, grpcProbe(b, strings.TrimPrefix(s.verifier.addresses["ext_authz"], "http://"), s.key))
	})
	b.Run("Unix socket", func(b *testing.B) { measure(b, 64, socketProbe(b, s.socket, s.key)) })
	b.Run("Unix socket, one connection", func(b *testing.B) { measure(b, 64, sharedSocketProbe(b, s.socket, s.key)) })
	for _, p := range benchProxies {
		overHTTP(p.name, p.start(b, strings.TrimPrefix(s.verifier.addresses["check"], "http://"), s.bare.http)+"/")
	}
	overHTTP("keyfleet gateway", s.gateway+"/bare/")
}

// BenchmarkScanner has good requests come at a steady rate, without and with somebody who tries keys as fast as answers
// come.
func BenchmarkScanner(b *testing.B) {
	s := newStand(b)
	for _, at := range []struct {
		name, url string
		refused   []int
	}{{"check over HTTP", s.check(), []int{401}}, {"keyfleet gateway", s.gateway + "/bare/", []int{401, 429}}} {
		b.Run(at.name+"/quiet", func(b *testing.B) { steady(b, httpProbe(b, at.url, s.key, 200)) })
		b.Run(at.name+"/scanned", func(b *testing.B) {
			ctx, end := context.WithCancel(b.Context())
			scanned := scan(ctx, b, httpProbe(b, at.url, apikey.Generate().Reveal(), at.refused...))
			steady(b, httpProbe(b, at.url, s.key, 200))
			end()
			b.ReportMetric(float64(<-scanned)/b.Elapsed().Seconds(), "scans/s")
		})
	}
}

func grpcProbe(b *testing.B, address, key string) func() probe {
	ask := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"project": "demo", "deployment": "bare"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "POST", Path: "/v1/chat/completions", Host: "models.test", Headers: map[string]string{"x-api-key": key},
		}},
	}}
	return func() probe {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(b, err)
		b.Cleanup(func() { _ = conn.Close() })
		client := authv3.NewAuthorizationClient(conn)
		return func() error {
			answer, err := client.Check(b.Context(), ask)
			if err == nil && answer.GetOkResponse() == nil {
				err = fmt.Errorf("refused: %v", answer.Status)
			}
			return err
		}
	}
}

func socketProbe(b *testing.B, path, key string) func() probe {
	return func() probe {
		c, err := socket.Dial(path)
		require.NoError(b, err)
		b.Cleanup(func() { _ = c.Close() })
		return askOver(b, c, key)
	}
}

func sharedSocketProbe(b *testing.B, path, key string) func() probe {
	c, err := socket.Dial(path)
	require.NoError(b, err)
	b.Cleanup(func() { _ = c.Close() })
	return func() probe { return askOver(b, c, key) }
}

func askOver(b *testing.B, c *socket.Client, key string) probe {
	request := verifier.Request{Project: "demo", Deployment: "bare", Key: []byte(key)}
	return func() error {
		a, err := c.Check(b.Context(), request)
		if err == nil && !a.Allowed() {
			err = fmt.Errorf("refused: %d", a.Outcome)
		}
		return err
	}
}
