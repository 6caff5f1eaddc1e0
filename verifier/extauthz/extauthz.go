package extauthz

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

// Checker decides.
type Checker interface {
	Check(context.Context, verifier.Request) verifier.Answer
}

type server struct {
	authv3.UnimplementedAuthorizationServer
	checker Checker
	log     *slog.Logger
}

// NewServer gives a server that Envoys may ask. The log gets every decision with its reason, at level debug.
func NewServer(c Checker, log *slog.Logger) *grpc.Server {
	s := grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute}), // forgets Envoys that are gone
		grpc.MaxRecvMsgSize(1<<20),
	)
	authv3.RegisterAuthorizationServer(s, &server{checker: c, log: log})
	return s
}

// errNotNamed is of a configuration, so that it is an error: Envoy answers what its status_on_error says.
var errNotNamed = status.Error(codes.FailedPrecondition,
	"name what keys are to open, in the route's ext_authz settings: context_extensions with project and deployment")

// Check answers Envoy.
func (s *server) Check(ctx context.Context, ask *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	extensions := ask.GetAttributes().GetContextExtensions()
	request := verifier.Request{Project: extensions["project"], Deployment: extensions["deployment"]}
	if request.Project == "" || request.Deployment == "" {
		return nil, errNotNamed
	}
	sent := headersOf(ask.GetAttributes().GetRequest().GetHttp())
	answer := page{header: http.Header{}}
	id := httpcheck.SetRequestID(&answer, &http.Request{Header: sent})
	var err error
	request.Incarnation, request.MinSeq, err = httpcheck.ParseMinSeq(sent.Get("Keyfleet-Min-Seq"))
	if err != nil {
		httpcheck.Complain(&answer, http.StatusBadRequest, "invalid_min_seq", err.Error()+".")
		return answer.denied(codes.InvalidArgument), nil //nolint:nilerr // it is the caller's, and told to the caller
	}
	request.Key = httpcheck.PresentedKey(sent)
	a := s.checker.Check(ctx, request)
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.DebugContext(ctx, "check", "reason", a.Reason, "key_id", a.Key, "project", request.Project,
			"deployment", request.Deployment, "seq", a.Seq, "request_id", id)
	}
	if a.Allowed() {
		return allowed(&a, request.Deployment), nil
	}
	httpcheck.Refuse(&answer, a)
	return answer.denied(codeOf(answer.status)), nil
}

// headersOf are those of a request that checks look at. Envoy gives their names in lower case.
func headersOf(r *authv3.AttributeContext_HttpRequest) http.Header {
	sent := http.Header{}
	for _, name := range []string{httpcheck.KeyHeader, "Authorization", "Keyfleet-Min-Seq", "X-Request-Id"} {
		if value, ok := r.GetHeaders()[lower[name]]; ok {
			sent[name] = []string{value}
		}
	}
	return sent
}

var lower = map[string]string{
	httpcheck.KeyHeader: "x-api-key", "Authorization": "authorization", "Keyfleet-Min-Seq": "keyfleet-min-seq", "X-Request-Id": "x-request-id",
}

func allowed(a *verifier.Answer, deployment string) *authv3.CheckResponse {
	text := structpb.NewStringValue
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				header("keyfleet-key-id", a.Key.String()), header("keyfleet-project", a.Project),
			},
			HeadersToRemove: []string{"x-api-key", "authorization"},
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"key_id": text(a.Key.String()), "project": text(a.Project), "deployment": text(deployment),
			"seq": text(strconv.FormatUint(uint64(a.Seq), 10)), // a number of theirs has 53 bits
		}},
	}
}

// header takes the place of one that the caller sent.
func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// page is an answer over HTTP, for Envoy to give.
type page struct {
	header http.Header
	status int
	body   []byte
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(status int)      { p.status = status }
func (p *page) Write(b []byte) (int, error) { p.body = append(p.body, b...); return len(b), nil }

func (p *page) denied(code codes.Code) *authv3.CheckResponse {
	p.header.Del("Content-Length") // Envoy counts by itself
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(p.status)},
		Body:   string(p.body),
	}
	for name := range p.header {
		denied.Headers = append(denied.Headers, header(name, p.header.Get(name)))
	}
	return &authv3.CheckResponse{
		Status:       &rpcstatus.Status{Code: int32(code)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
	}
}

func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	default:
		return codes.Unavailable
	}
}
