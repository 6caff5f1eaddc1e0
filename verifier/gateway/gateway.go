package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"time"

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

// Options of a gateway. Project is needed; of the rest the zero value is fit for production.
type Options struct {
	Project   string        // whose deployments are served
	MaxBody   int64         // of a request, in bytes; default 32 MiB
	BodyPause time.Duration // in which a caller has to send more of a body, or take more of an answer; default 30 s
	Finish    bool          // open streams may finish after their key was revoked or has expired; default: they are cut
	Log       *slog.Logger  // default: discarded
}

func (o *Options) ensureDefaults() {
	if o.MaxBody == 0 {
		o.MaxBody = 32 << 20
	}
	if o.BodyPause == 0 {
		o.BodyPause = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

type gateway struct {
	Options
	verifier Verifier
	failures *failures
	proxy    *httputil.ReverseProxy
}

// New serves each deployment of the project under its host, and under /{deployment}/ of any other host.
func New(v Verifier, opts Options) http.Handler {
	opts.ensureDefaults()
	g := &gateway{Options: opts, verifier: v, failures: newFailures()}
	g.proxy = newProxy(opts.Log)
	return g
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
	ask := verifier.Request{Project: g.Project, Deployment: name, Key: httpcheck.PresentedKey(r.Header)}
	a := g.verifier.Check(r.Context(), ask)
	if !a.Allowed() {
		g.Log.DebugContext(r.Context(), "refused", "reason", a.Reason, "key_id", a.Key, "deployment", name, "request_id", id)
		g.refuse(w, r, a)
		return
	}
	upstream, err := url.Parse(a.Deployment.Upstream)
	if err != nil || upstream.Host == "" {
		httpcheck.Complain(w, http.StatusServiceUnavailable, "no_upstream",
			"No upstream is registered for this deployment. Set one with: keyfleet deployments edit "+name+" --upstream URL")
		return
	}
	if r.ContentLength > g.MaxBody {
		tooLarge(w)
		return
	}
	g.forward(w, r, &passage{verifier: g.verifier, ask: ask, answer: a, upstream: upstream, path: path, requestID: id})
}

// refuse answers what may not pass. A source that fails too often hears 429 instead of 401, which says as little. A good
// key passes all the same: many callers may share a source, and one of them must not shut the others out.
func (g *gateway) refuse(w http.ResponseWriter, r *http.Request, a verifier.Answer) {
	if a.Reason.Class() == projections.Unauthenticated {
		source, _ := netip.ParseAddrPort(r.RemoteAddr)
		if wait := g.failures.add(source.Addr(), time.Now()); wait > 0 {
			g.failures.dawdle(r.Context())
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			httpcheck.Complain(w, http.StatusTooManyRequests, "too_many_failures",
				"Too many requests from this address came without a valid API key. Wait before you try another.")
			return
		}
	}
	httpcheck.Refuse(w, a)
}

func tooLarge(w http.ResponseWriter) {
	httpcheck.Complain(w, http.StatusRequestEntityTooLarge, "body_too_large", "The request's body is larger than this gateway forwards.")
}

// forward has the proxy carry the request, for as long as its key opens the deployment.
func (g *gateway) forward(w http.ResponseWriter, r *http.Request, p *passage) {
	ctx, cut := context.WithCancelCause(context.WithValue(r.Context(), passageKey{}, p))
	defer cut(nil)
	if !g.Finish {
		stop := p.watch(ctx, cut)
		defer stop()
	}
	w.Header().Del("Access-Control-Allow-Origin") // the upstream's own answer decides
	r = r.WithContext(ctx)
	control := http.NewResponseController(w)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &pacedBody{ReadCloser: http.MaxBytesReader(w, r.Body, g.MaxBody), control: control, pause: g.BodyPause}
	}
	g.proxy.ServeHTTP(&pacedWriter{ResponseWriter: w, control: control, pause: g.BodyPause}, r)
}
