package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/registry"
)

// Service is what is shown and changed: a registry.Service.
type Service interface {
	Admit(presented events.Digest) (registry.Admin, error)
	Do(context.Context, registry.Command) (any, error)
	Look(context.Context, registry.Command) (any, registry.Reading, error)
	Trail(ctx context.Context, project string, before uint64, enough int, match func(*history.Entry) bool) ([]history.Entry, uint64, error)
}

const maxForm = 128 << 10 // roomy: a thousand deployments take 40 kB

// policy lets pages load nothing but the console's own files, and be framed by nobody.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

type console struct {
	service  Service
	log      *slog.Logger
	sessions *sessions
}

// page is what answers one visit.
type page struct {
	pattern string
	role    registry.Role // that it takes; empty: it is for everybody
	show    func(*visit) error
}

// New is the console. What cannot be shown for a cause of the registry's own is told to log.
func New(s Service, log *slog.Logger) http.Handler {
	c := &console{service: s, log: log, sessions: newSessions()}
	mux := http.NewServeMux()
	for _, p := range pages {
		mux.HandleFunc(p.pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, p) })
	}
	mux.Handle("GET /static/", http.HandlerFunc(serveStatic))
	return headers(http.NewCrossOriginProtection().Handler(mux))
}

func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// The pages. Those of a project are below it, so that one look at the path tells whether the admin's scope covers it.
const (
	keysURL        = "/projects/{project}/keys"
	keyURL         = keysURL + "/{name}"
	deploymentsURL = "/projects/{project}/deployments"
	deploymentURL  = deploymentsURL + "/{name}"
)

var pages = []page{
	{"GET /{$}", registry.Viewer, showHome},
	{"GET /signin", "", showSignIn},
	{"POST /signin", "", signIn},
	{"POST /signout", "", signOut},
	{"GET " + keysURL, registry.Viewer, showKeys},
	{"GET " + keysURL + "/new", registry.Editor, showNewKey},
	{"POST " + keysURL, registry.Editor, createKey},
	{"GET " + keyURL, registry.Viewer, showKey},
	{"POST " + keyURL, registry.Editor, editKey},
	{"POST " + keyURL + "/rotate", registry.Editor, rotateKey},
	{"POST " + keyURL + "/disable", registry.Editor, switchKey(registry.KeyDisable, "disabled")},
	{"POST " + keyURL + "/enable", registry.Editor, switchKey(registry.KeyEnable, "enabled")},
	{"GET " + keyURL + "/delete", registry.Editor, askDeleteKey},
	{"POST " + keyURL + "/delete", registry.Editor, deleteKey},
	{"GET " + deploymentsURL, registry.Viewer, showDeployments},
	{"POST " + deploymentsURL, registry.Owner, registerDeployment},
	{"GET " + deploymentURL, registry.Viewer, showDeployment},
	{"POST " + deploymentURL, registry.Owner, editDeployment},
	{"POST " + deploymentURL + "/attach", registry.Editor, changeAttachment(registry.KeyAttach, "attached")},
	{"POST " + deploymentURL + "/detach", registry.Editor, changeAttachment(registry.KeyDetach, "detached")},
	{"POST " + deploymentURL + "/remove", registry.Owner, removeDeployment},
	{"GET /projects/{project}/identify", registry.Viewer, showIdentify},
	{"POST /projects/{project}/identify", registry.Viewer, identify},
	{"GET /projects/{project}/audit", registry.Viewer, showAudit},
	{"GET /fleet", registry.Viewer, showFleet},
	{"GET /receipts/{seq}", registry.Viewer, showReceipt},
}

func (c *console) serve(w http.ResponseWriter, r *http.Request, p page) {
	v := &visit{console: c, w: w, r: r, project: r.PathValue("project")}
	v.readForm()
	if p.role != "" && !v.signedIn() {
		http.Redirect(w, r, "/signin", http.StatusSeeOther)
		return
	}
	err := v.allowed(p.role)
	if err == nil {
		err = p.show(v)
	}
	if err != nil {
		v.complain(err)
	}
}

// patience is for a browser's sending of a form, and then for its reading of the page.
const patience = 30 * time.Second

// readForm reads a form if there is one; of one that is too large, or does not end, there is nothing.
func (v *visit) readForm() {
	c := http.NewResponseController(v.w)
	_ = c.SetReadDeadline(time.Now().Add(patience)) // not all writers can
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if v.r.ParseForm() == nil { // the server would take a deadline that passes later for a visitor who went away
		_ = c.SetReadDeadline(time.Time{})
	}
	_ = c.SetWriteDeadline(time.Now().Add(patience))
}

// statuses are for refusals that end a visit. Those that a form can mend are shown on its page instead.
var statuses = map[registry.Code]int{
	registry.Invalid: http.StatusBadRequest, registry.Forbidden: http.StatusForbidden, registry.NotFound: http.StatusNotFound,
	registry.NameTaken: http.StatusConflict, registry.Conflict: http.StatusConflict, registry.Unavailable: http.StatusServiceUnavailable,
}

// complain shows why a visit failed: to the script as JSON, to people as a page.
func (v *visit) complain(err error) {
	refusal := registry.AsRefusal(err)
	var told *registry.Refusal
	if !errors.As(err, &told) {
		v.console.log.ErrorContext(v.r.Context(), "a page could not be shown", "path", v.r.URL.Path, "error", err)
	}
	status, known := statuses[refusal.Code]
	if !known {
		status = http.StatusServiceUnavailable
	}
	if v.wantsJSON() {
		v.writeJSON(status, map[string]string{"error": refusal.Message})
		return
	}
	v.render(status, "problem", "That did not work", refusal.Message)
}
