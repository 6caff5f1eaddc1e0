package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/socket"
)

// A verifier of its own answers sidecars over a socket and Envoy over gRPC, the same as over HTTP.
func TestOtherWaysToAsk(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	key, id := dev.newKey(t, "good", "echo-model")
	signing, err := readSigningKey(filepath.Join(dev.data, "signing.pem"))
	require.NoError(t, err)
	dir := t.TempDir()
	at := filepath.Join(dir, "check.sock")
	v := startServer(t, "verifier", "--name", "edge-1", "--log-key", publicHalf(signing).String(), "--nats", dev.NATS,
		"--data", filepath.Join(dir, "data"), "--check", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--socket", at, "--ext-authz", "127.0.0.1:0")
	sidecar, err := socket.Dial(at)
	require.NoError(t, err)
	defer sidecar.Close()
	request := verifier.Request{Project: "demo", Deployment: "echo-model", Key: []byte(key)}
	require.Eventually(t, func() bool { // it has to catch up first
		a, err := sidecar.Check(t.Context(), request)
		return err == nil && a.Allowed() && a.Key.String() == id
	}, 20*time.Second, 20*time.Millisecond)

	conn, err := grpc.NewClient(strings.TrimPrefix(v.addresses["ext_authz"], "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	ask := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"project": "demo", "deployment": "echo-model"},
		Request:           &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Headers: map[string]string{"x-api-key": key}}},
	}}
	answer, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), ask)
	require.NoError(t, err)
	require.Equal(t, id, answer.DynamicMetadata.AsMap()["key_id"])

	_, status := dev.keyfleet(t, "", "keys", "delete", "good", "--wait", "confirmed")
	require.Equal(t, statusDone, status)
	answer, err = authv3.NewAuthorizationClient(conn).Check(t.Context(), ask)
	require.NoError(t, err)
	require.EqualValues(t, codes.Unauthenticated, answer.Status.Code)
	refused, err := sidecar.Check(t.Context(), request)
	require.NoError(t, err)
	require.False(t, refused.Allowed())
	require.NotContains(t, v.said.String(), key)
}
