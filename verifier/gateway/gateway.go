package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

// Verifier decides, and knows the deployments.
type Verifier interface {
	Check(context.Context, verifier.Request) verifier.Answer
	// DeploymentAt gives the project's deployment that is served under a host name; nil if there is none.
	DeploymentAt(project, host string) *projections.Deployment
}

// Options of a gateway. Project is needed.
type Options struct {
	Project   string            // whose deployments are served
	Transport http.RoundTripper // default: http.DefaultTransport's settings, with more connections kept
	Log       *slog.Logger      // default: discarded
}

type gateway struct {
	verifier Verifier
	project  string
	proxy    *httputil.ReverseProxy
	log      *slog.Logger
}

// New serves each deployment of the project under its host, and under /{deployment}/ of any other host.
func New(v Verifier, opts Options) http.Handler {
	g := &gateway{verifier: v, project: opts.Project, log: opts.Log}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if opts.Transport == nil {
		opts.Transport = transport()
	}
	g.proxy = &httputil.ReverseProxy{
		Rewrite:        g.rewrite,
		Transport:      opts.Transport,
		FlushInterval:  -1, // tokens are read as they are made
		ModifyResponse: func(r *http.Response) error { openToBrowsers(r.Header, r.Request); return nil },
		ErrorHandler:   g.unreachable,
		ErrorLog:       slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
	}
	return g
}

func transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // it is one, in a program that leaves it alone
	t.MaxIdleConnsPerHost = 64
	t.DisableCompression = true // what the caller did not ask for would have to be undone
	return t
}

// ServeHTTP checks, and then forwards.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := httpcheck.SetRequestID(w, r)
	openToBrowsers(w.Header(), r)
	if isPreflight(r) {
		answerPreflight(w, r)
		return
	}
	name, path := g.route(r)
	if climbs(path) {
		httpcheck.Complain(w, http.StatusBadRequest, "invalid_path", "The path has a segment . or .. in it; send the path that they lead to.")
		return
	}
	a := g.verifier.Check(r.Context(), verifier.Request{
		Project: g.project, Deployment: name, Key: httpcheck.PresentedKey(r.Header),
	})
	if !a.Allowed() {
		g.log.DebugContext(r.Context(), "refused", "reason", a.Reason, "key_id", a.Key, "deployment", name, "request_id", id)
		httpcheck.Refuse(w, a)
		return
	}
	upstream, err := url.Parse(a.Deployment.Upstream)
	if err != nil || upstream.Host == "" {
		httpcheck.Complain(w, http.StatusServiceUnavailable, "no_upstream",
			"No upstream is registered for this deployment. Set one with: keyfleet deployments edit "+name+" --upstream URL")
		return
	}
	passage := &passage{answer: a, upstream: upstream, path: path, requestID: id}
	w.Header().Del("Access-Control-Allow-Origin") // the upstream's own answer decides
	g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passageKey{}, passage)))
}

// route names the deployment that a request is for, and the escaped path that is its own.
func (g *gateway) route(r *http.Request) (name, path string) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	path = r.URL.EscapedPath()
	if d := g.verifier.DeploymentAt(g.project, host); host != "" && d != nil {
		return d.Name, path
	}
	name, path, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return name, "/" + path
}

// climbs reports whether an escaped path could lead out of the upstream's own.
func climbs(path string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for segment := range strings.FieldsFuncSeq(plain, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// passage is what the proxy has to know of a request that may pass.
type passage struct {
	answer    verifier.Answer
	upstream  *url.URL
	path      string
	requestID string
}

type passageKey struct{}

// rewrite makes the request that goes to the upstream: to its URL, without the key, with what Keyfleet
// says of the key and nothing that only looks like it.
func (g *gateway) rewrite(p *httputil.ProxyRequest) {
	pass, _ := p.In.Context().Value(passageKey{}).(*passage)
	plain, _ := url.PathUnescape(pass.path) // it parsed before, in climbs
	p.Out.URL.Path, p.Out.URL.RawPath = plain, pass.path
	p.SetURL(pass.upstream)
	p.SetXForwarded()
	for name := range p.Out.Header {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), "Keyfleet-") {
			p.Out.Header.Del(name)
		}
	}
	p.Out.Header.Del(httpcheck.KeyHeader)
	p.Out.Header.Del("Authorization")
	p.Out.Header.Set(httpcheck.KeyIDHeader, pass.answer.Key.String())
	p.Out.Header.Set(httpcheck.ProjectHeader, pass.answer.Project)
	p.Out.Header.Set("X-Request-Id", pass.requestID)
}

func (g *gateway) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if !errors.Is(err, context.Canceled) {
		g.log.WarnContext(r.Context(), "upstream not reachable", "error", err)
	}
	openToBrowsers(w.Header(), r)
	httpcheck.Complain(w, http.StatusBadGateway, "upstream_unreachable", "The deployment's upstream did not answer. Try again shortly.")
}
