package httpapi

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
)

// Service is what is offered: a registry.Service.
type Service interface {
	Admit(presented events.Digest) (registry.Admin, error)
	Do(context.Context, registry.Command) (any, error)
	DoAll(ctx context.Context, cmds []registry.Command, answer func(i int, reply any, err error))
	Look(context.Context, registry.Command) (any, registry.Reading, error)
}

// The bounds of what is taken in. An import is bounded by its lines instead.
const (
	maxInFlight = 1024
	maxBody     = 256 << 10 // roomy: a thousand names take 66 kB
)

// patience is for a caller's sending of a body, and then for its reading of the answer.
const patience = 30 * time.Second

const requestIDHeader = "X-Request-Id"

type api struct {
	service Service
	log     *slog.Logger
	mux     *http.ServeMux
	places  chan struct{} // one is taken for each call under way
}

// New offers the routes of the table, the OpenAPI document and a page to read it. What cannot be answered for a cause of
// the registry's own is told to log.
func New(s Service, log *slog.Logger) http.Handler {
	a := &api{service: s, log: log, mux: http.NewServeMux(), places: make(chan struct{}, maxInFlight)}
	byPath := map[string]methods{}
	for i := range routes {
		r := &routes[i]
		if byPath[r.path] == nil {
			byPath[r.path] = methods{}
		}
		byPath[r.path][r.method] = r
	}
	for pattern, m := range byPath {
		a.mux.Handle(pattern, a.offer(m))
	}
	a.mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		complain(w, &problem{status: http.StatusNotFound, class: "NotFoundError",
			message: "nothing is here; /openapi.json lists what there is"})
	}))
	return a
}

// ServeHTTP takes paths as they are: one that would have to be cleaned first names nothing.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := events.NewID()
	w.Header().Set(requestIDHeader, "req_"+hex.EncodeToString(id[:]))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	waitFor(w, patience, 0)
	select {
	case a.places <- struct{}{}:
		defer func() { <-a.places }()
	default:
		w.Header().Set("Retry-After", "1")
		complain(w, &problem{status: http.StatusTooManyRequests, class: "TooManyRequestsError",
			message: "too many calls are under way; try again in a second"})
		return
	}
	if path.Clean(r.URL.Path) != r.URL.Path {
		complain(w, &problem{status: http.StatusNotFound, class: "NotFoundError", message: "the path has empty or dotted parts; leave them out"})
		return
	}
	a.mux.ServeHTTP(w, r)
}

// waitFor bounds how long the rest of the body, and of the answer, may take from now on; 0 is for ever. A body is waited for
// even by the server, which reads what a refusal left unread; and one that was read must not be waited for: the server would
// take it for a caller that went away.
func waitFor(w http.ResponseWriter, body, answer time.Duration) {
	until := func(d time.Duration) (t time.Time) {
		if d > 0 {
			t = time.Now().Add(d)
		}
		return t
	}
	c := http.NewResponseController(w)
	_, _ = c.SetReadDeadline(until(body)), c.SetWriteDeadline(until(answer)) // not all writers can
}

// methods are the routes of one path.
type methods map[string]*route

func (m methods) allowed() string {
	var all []string
	for method := range m {
		all = append(all, method)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (a *api) offer(m methods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		route := m[method]
		if route == nil {
			w.Header().Set("Allow", m.allowed())
			complain(w, &problem{status: http.StatusMethodNotAllowed, class: "MethodNotAllowedError",
				message: r.Method + " is not possible here; possible: " + m.allowed()})
			return
		}
		a.serve(w, r, route)
	})
}

func (a *api) serve(w http.ResponseWriter, r *http.Request, route *route) {
	if route.page != nil {
		route.page(w)
		return
	}
	c := &call{service: a.service, route: route, w: w, r: r, project: r.PathValue("project"), name: r.PathValue("name")}
	err := c.admit()
	var reply any
	if err == nil {
		reply, err = route.do(c)
	}
	if err == nil {
		c.answer(reply)
		return
	}
	p := problemOf(err)
	if p.internal != nil {
		a.log.ErrorContext(r.Context(), "a call could not be answered", "route", route.method+" "+route.path, "project", c.project,
			"request_id", w.Header().Get(requestIDHeader), "error", p.internal)
	}
	complain(w, p)
}

// admit refuses callers without a living admin key, and those whose key does not allow what the route needs.
func (c *call) admit() error {
	scheme, text, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "APIKey") && !strings.EqualFold(scheme, "Bearer") {
		return errUnauthorized
	}
	secret, err := apikey.Parse(strings.TrimSpace(text))
	if err != nil {
		return errUnauthorized
	}
	if c.admin, err = c.service.Admit(secret.Digest()); errors.Is(err, registry.ErrNotAdmitted) {
		return errUnauthorized
	} else if err != nil {
		return err
	}
	if c.project != "" && !c.admin.Covers(c.project) {
		return forbid("the admin key's scope is %q: it does not cover project %q", c.admin.Scope, c.project)
	}
	return c.need(c.route.role)
}

func (c *call) need(role registry.Role) error {
	if !c.admin.Has(role) {
		return forbid("this takes the role %s; the admin key's is %s", role, c.admin.Role)
	}
	return nil
}
