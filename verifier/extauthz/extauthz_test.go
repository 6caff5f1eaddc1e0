package extauthz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3" // the configuration names it
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3" // and this
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

// decided answers every check alike, and keeps what was asked.
type decided struct {
	reason projections.Reason
	asked  verifier.Request
}

func (d *decided) Check(_ context.Context, r verifier.Request) verifier.Answer {
	d.asked = r
	return verifier.Answer{
		Decision: projections.Decision{Reason: d.reason, Key: events.KeyID{1}, Project: "demo"}, Seq: 42,
	}
}

// envoy is a client of a real server.
func envoy(t testing.TB, c Checker, log *slog.Logger) authv3.AuthorizationClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(c, log)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return authv3.NewAuthorizationClient(conn)
}

// envoySends is of the shape that Envoy sends for a POST, with the headers put in.
func envoySends(t testing.TB, extensions map[string]string, headers ...string) *authv3.CheckRequest {
	t.Helper()
	ask := &authv3.CheckRequest{}
	require.NoError(t, protojson.Unmarshal([]byte(`{"attributes": {
		"source": {"address": {"socketAddress": {"address": "192.0.2.7", "portValue": 50214}}},
		"destination": {"address": {"socketAddress": {"address": "198.51.100.1", "portValue": 8280}}},
		"request": {"time": "2026-11-01T10:00:00.123456Z", "http": {
			"id": "6237120398041934013", "method": "POST", "path": "/v1/chat/completions", "host": "models.test",
			"scheme": "http", "size": "64", "protocol": "HTTP/1.1",
			"headers": {":method": "POST", ":path": "/v1/chat/completions", ":authority": "models.test", ":scheme": "http",
				"x-forwarded-proto": "http", "x-request-id": "d1a9c7b4-6f4e-4a39-9a3f-0d7b6a0f6f6e", "content-type": "application/json"}}},
		"metadataContext": {}, "routeMetadataContext": {}}}`), ask))
	ask.Attributes.ContextExtensions = extensions
	for i := 0; i < len(headers); i += 2 {
		ask.Attributes.Request.Http.Headers[headers[i]] = headers[i+1]
	}
	return ask
}

var demo = map[string]string{"project": "demo", "deployment": "echo-model"}

func TestAllowed(t *testing.T) {
	c := &decided{reason: projections.Allowed}
	answer, err := envoy(t, c, slog.New(slog.DiscardHandler)).Check(t.Context(),
		envoySends(t, demo, "x-api-key", "secret", "authorization", "Bearer dummy", "keyfleet-min-seq", "41", "keyfleet-deployment", "other"))
	require.NoError(t, err)
	require.Equal(t, verifier.Request{Project: "demo", Deployment: "echo-model", Key: []byte("secret"), MinSeq: 41}, c.asked)
	require.EqualValues(t, codes.OK, answer.Status.Code)
	ok := answer.GetOkResponse()
	require.Equal(t, map[string]string{"keyfleet-key-id": events.KeyID{1}.String(), "keyfleet-project": "demo"}, valuesOf(t, ok.Headers))
	require.ElementsMatch(t, []string{"x-api-key", "authorization"}, ok.HeadersToRemove)
	require.Equal(t, map[string]any{
		"key_id": events.KeyID{1}.String(), "project": "demo", "deployment": "echo-model", "seq": "42",
	}, answer.DynamicMetadata.AsMap())
}

// valuesOf takes for granted that a caller's own headers of these names are replaced.
func valuesOf(t *testing.T, headers []*corev3.HeaderValueOption) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, h := range headers {
		require.Equal(t, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, h.AppendAction)
		values[h.Header.Key] = h.Header.Value
	}
	return values
}

func TestRefusalsAreThoseOfHTTP(t *testing.T) {
	for _, reason := range projections.Reasons() {
		if reason == projections.Allowed {
			continue
		}
		c := &decided{reason: reason}
		over, err := httpcheck.New(c, httpcheck.Options{})
		require.NoError(t, err)
		want := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/v1/check/demo/echo-model", nil)
		r.Header.Set("X-Request-Id", "d1a9c7b4-6f4e-4a39-9a3f-0d7b6a0f6f6e")
		over.ServeHTTP(want, r)

		answer, err := envoy(t, c, slog.New(slog.DiscardHandler)).Check(t.Context(), envoySends(t, demo, "authorization", "Bearer secret"))
		require.NoError(t, err)
		require.Equal(t, "secret", string(c.asked.Key))
		denied := answer.GetDeniedResponse()
		require.EqualValues(t, want.Code, denied.Status.Code, reason)
		require.Equal(t, want.Body.String(), denied.Body)
		got := valuesOf(t, denied.Headers)
		want.Header().Del("Content-Length")
		for name := range want.Header() {
			require.Equal(t, want.Header().Get(name), got[name], name)
		}
		require.Len(t, got, len(want.Header()))
		require.NotEqualValues(t, codes.OK, answer.Status.Code)
	}
}

func TestWhatIsNoCheck(t *testing.T) {
	c := &decided{reason: projections.Allowed}
	client := envoy(t, c, slog.New(slog.DiscardHandler))
	for _, extensions := range []map[string]string{nil, {"project": "demo"}, {"deployment": "echo-model"}} {
		_, err := client.Check(t.Context(), envoySends(t, extensions, "x-api-key", "k", "keyfleet-project", "demo", "keyfleet-deployment", "echo-model"))
		require.Equal(t, codes.FailedPrecondition, status.Code(err), "callers do not choose")
	}
	_, err := client.Check(t.Context(), &authv3.CheckRequest{})
	require.Error(t, err)
	answer, err := client.Check(t.Context(), envoySends(t, demo, "keyfleet-min-seq", "soon"))
	require.NoError(t, err)
	require.EqualValues(t, http.StatusBadRequest, answer.GetDeniedResponse().Status.Code)
}

func TestNoSecretIsLogged(t *testing.T) {
	var said bytes.Buffer
	client := envoy(t, &decided{reason: projections.Unknown}, slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug})))
	_, err := client.Check(t.Context(), envoySends(t, demo, "x-api-key", "kf_secret"))
	require.NoError(t, err)
	require.Contains(t, said.String(), "reason=unknown")
	require.NotContains(t, said.String(), "kf_secret")
}

// The configuration that is shipped is one that Envoy could load, as far as its own definitions tell, and names what the
// server needs.
func TestShippedConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../deploy/envoy/envoy.yaml")
	require.NoError(t, err)
	var plain map[string]any
	require.NoError(t, yaml.Unmarshal(text, &plain))
	asJSON, err := json.Marshal(plain)
	require.NoError(t, err)
	bootstrap := &bootstrapv3.Bootstrap{}
	require.NoError(t, protojson.Unmarshal(asJSON, bootstrap))
	require.NoError(t, bootstrap.ValidateAll())

	manager := &hcmv3.HttpConnectionManager{}
	require.NoError(t, bootstrap.StaticResources.Listeners[0].FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(manager))
	require.NoError(t, manager.ValidateAll())
	filter := &extauthzv3.ExtAuthz{}
	require.NoError(t, manager.HttpFilters[0].GetTypedConfig().UnmarshalTo(filter))
	require.NoError(t, filter.ValidateAll())
	require.False(t, filter.FailureModeAllow)
	asked := filter.GetGrpcService().GetEnvoyGrpc().ClusterName
	require.Equal(t, bootstrap.StaticResources.Clusters[0].Name, asked)

	route := manager.GetRouteConfig().VirtualHosts[0].Routes[0]
	require.IsType(t, &routev3.Route_Route{}, route.Action)
	perRoute := &extauthzv3.ExtAuthzPerRoute{}
	require.NoError(t, route.TypedPerFilterConfig[manager.HttpFilters[0].Name].UnmarshalTo(perRoute))
	answer, err := envoy(t, &decided{reason: projections.Allowed}, slog.New(slog.DiscardHandler)).
		Check(t.Context(), envoySends(t, perRoute.GetCheckSettings().ContextExtensions))
	require.NoError(t, err)
	require.NotNil(t, answer.GetOkResponse())
}

// FuzzCheck: whatever Envoy hands on, it is answered or refused, and only what was allowed is let through.
func FuzzCheck(f *testing.F) {
	sample, err := proto.Marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"project": "demo", "deployment": "echo-model"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Headers: map[string]string{"x-api-key": "kf_x", "keyfleet-min-seq": "3", "x-request-id": "a\r\nb"},
		}},
	}})
	require.NoError(f, err)
	f.Add(sample, true)
	f.Fuzz(func(t *testing.T, data []byte, allows bool) {
		c := &decided{reason: projections.Unknown}
		if allows {
			c.reason = projections.Allowed
		}
		var ask authv3.CheckRequest
		var answer *authv3.CheckResponse
		err := error(nil)
		fuzztest.Frugally(t, len(data), 0, func() {
			if err = proto.Unmarshal(data, &ask); err == nil {
				answer, err = (&server{checker: c, log: slog.New(slog.DiscardHandler)}).Check(t.Context(), &ask)
			}
		})
		if errors.Is(err, proto.Error) {
			return
		}
		if err != nil {
			require.Equal(t, codes.FailedPrecondition, status.Code(err))
			return
		}
		if !allows {
			require.NotEqual(t, int32(codes.OK), answer.GetStatus().GetCode())
		}
		for _, h := range answer.GetDeniedResponse().GetHeaders() {
			require.NotContains(t, h.GetHeader().GetValue(), "\n")
		}
	})
}
