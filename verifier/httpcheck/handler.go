package httpcheck

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/verifier"
)

// Checker decides.
type Checker interface {
	Check(context.Context, verifier.Request) verifier.Answer
}

// Options of a handler. The zero value will do.
type Options struct {
	Log     *slog.Logger          // gets every decision with its reason, at level debug; default: discarded
	Metrics prometheus.Registerer // default: none
}

type handler struct {
	checker Checker
	log     *slog.Logger
	took    prometheus.Histogram
}

// New offers checks at /v1/check/{project}/{deployment}, and at /v1/check with both named by headers.
func New(c Checker, opts Options) (http.Handler, error) {
	h := &handler{checker: c, log: opts.Log}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.took = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "keyfleet_verifier_http_check_seconds",
		Help:    "Time that a check over HTTP took in the handler, waiting for min_seq included.",
		Buckets: []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, .1, 1},
	})
	if opts.Metrics != nil {
		if err := opts.Metrics.Register(h.took); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// ServeHTTP answers a check. The path is taken as it is: one that would have to be cleaned first names
// nothing.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	id := SetRequestID(w, r)
	request, ok := readRequest(w, r)
	if !ok {
		return
	}
	a := h.checker.Check(r.Context(), request)
	if h.log.Enabled(r.Context(), slog.LevelDebug) {
		h.log.DebugContext(r.Context(), "check", "reason", a.Reason, "key_id", a.Key, "project", request.Project,
			"deployment", request.Deployment, "seq", a.Seq, "request_id", id)
	}
	if a.Allowed() {
		allow(w.Header(), a)
	} else {
		Refuse(w, a)
	}
	h.took.Observe(time.Since(begun).Seconds())
}

func allow(h http.Header, a verifier.Answer) {
	set(h, "Cache-Control", "no-store")
	set(h, KeyIDHeader, a.Key.String())
	set(h, ProjectHeader, a.Project)
	setState(h, a) // 200 needs no saying, which spares the server a copy of the headers
}

// readRequest complains of what is no check.
func readRequest(w http.ResponseWriter, r *http.Request) (verifier.Request, bool) {
	var request verifier.Request
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/check")
	names := strings.Split(rest, "/")
	switch {
	case ok && rest == "":
		request.Project, request.Deployment = r.Header.Get(ProjectHeader), r.Header.Get(deploymentHeader)
	case ok && len(names) == 3 && names[0] == "" && names[1] != "" && names[2] != "":
		request.Project, request.Deployment = names[1], names[2]
	default:
		Complain(w, http.StatusNotFound, "not_found",
			"Nothing is here. Checks are at /v1/check/{project}/{deployment}.")
		return request, false
	}
	if request.Project == "" || request.Deployment == "" {
		Complain(w, http.StatusBadRequest, "deployment_not_named",
			"Name what the key is to open: /v1/check/{project}/{deployment}, or the headers Keyfleet-Project and Keyfleet-Deployment.")
		return request, false
	}
	var err error
	if request.Incarnation, request.MinSeq, err = ParseMinSeq(r.Header.Get(minSeqHeader)); err != nil {
		Complain(w, http.StatusBadRequest, "invalid_min_seq", err.Error()+".")
		return request, false
	}
	request.Key = PresentedKey(r.Header)
	return request, true
}

// NewServer gives a server for handlers that read no bodies, with limits against callers that dawdle.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
}

var _ Checker = (*verifier.Verifier)(nil)
