package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/clock"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/httpapi"
)

// office elects those who wait in order, each once the one before has resigned.
type office struct {
	seats    chan struct{}
	revision uint64
}

func (o *office) Win(ctx context.Context) (registry.Leadership, error) {
	select {
	case <-o.seats:
		o.revision++
		return &seat{o, o.revision}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type seat struct {
	*office
	revision uint64
}

func (s *seat) Revision() uint64         { return s.revision }
func (s *seat) SelfLease() time.Duration { return 1000 * time.Hour }
func (s *seat) Resign()                  { s.seats <- struct{}{} }

// world is what registries share.
type world struct {
	log    *eventlogtest.Memory
	clock  *clock.Manual
	office *office
}

func newWorld() *world {
	w := &world{
		log: eventlogtest.NewMemory(), clock: clock.NewManual(time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)),
		office: &office{seats: make(chan struct{}, 1)},
	}
	w.log.Clock = w.clock.Now
	w.office.seats <- struct{}{}
	return w
}

// hub is a registry behind REST.
type hub struct {
	*registry.Service
	url    string
	opened chan struct{}
	stop   func()
	admins map[string]string // name to secret
}

func startHub(t testing.TB, w *world) *hub {
	t.Helper()
	cat, err := catalog.Open(t.TempDir(), catalog.Options{})
	require.NoError(t, err)
	h := &hub{opened: make(chan struct{}, 16), admins: map[string]string{}}
	h.Service = registry.NewService(w.log, cat, w.office, registry.Options{Name: "hub", Clock: w.clock, Observe: func(e registry.Event) {
		if _, ok := e.(registry.TermOpened); ok {
			h.opened <- struct{}{}
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	server := httptest.NewServer(httpapi.New(h.Service, slog.New(slog.DiscardHandler)))
	h.url = server.URL
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			server.Close()
			cancel()
			<-done
			require.NoError(t, cat.Close())
		})
	}
	t.Cleanup(h.stop)
	return h
}

// leadingHub has an admin key of every role for acme, and an owner of everything called root.
func leadingHub(t testing.TB) *hub {
	t.Helper()
	h := startHub(t, newWorld())
	<-h.opened
	h.admit(t, "root", "owner", "*")
	for _, role := range []string{"viewer", "editor", "owner"} {
		h.admit(t, role, role, "acme")
	}
	return h
}

func (h *hub) admit(t testing.TB, name, role, scope string) {
	t.Helper()
	secret := apikey.Generate()
	_, err := h.Do(t.Context(), registry.Command{Project: registry.AdminProject, Actor: "_test", Verb: registry.KeyCreate,
		Request: registry.Request{Name: "admin-" + name, Role: role, Scope: scope, Digest: secret.Digest().String(), Hint: secret.Hint()}})
	require.NoError(t, err)
	h.admins[name] = secret.Reveal()
}

// answer is what a call was answered with.
type answer struct {
	status int
	header http.Header
	body   string
}

// send calls as one of the admins, or nobody.
func (h *hub) send(t testing.TB, admin, method, path, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if admin != "" {
		r.Header.Set("Authorization", "APIKey "+h.admins[admin])
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return answer{reply.StatusCode, reply.Header, string(text)}
}
