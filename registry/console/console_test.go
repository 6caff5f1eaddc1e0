package console

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/registry"
)

// desk knows admins by their digests, and has heard of nothing else. It keeps what it was asked.
type desk struct {
	admins map[events.Digest]registry.Admin
	asked  []registry.Command
}

func (d *desk) Admit(presented events.Digest) (registry.Admin, error) {
	if a, known := d.admins[presented]; known {
		return a, nil
	}
	return registry.Admin{}, registry.ErrNotAdmitted
}

func (d *desk) Do(_ context.Context, c registry.Command) (any, error) {
	d.asked = append(d.asked, c)
	if c.Verb == registry.KeyCreate && c.Request.Name != "taken" {
		reply := &registry.KeyReply{KeyView: registry.KeyView{Name: c.Request.Name}}
		if c.Request.Digest == "" {
			reply.Secret = "kf_made_here"
		}
		return reply, nil
	}
	return nil, &registry.Refusal{Code: registry.NotFound, Message: "<b>nothing</b> is known here"}
}

func (d *desk) Look(ctx context.Context, c registry.Command) (any, registry.Reading, error) {
	if c.Verb == registry.DeploymentList {
		return &registry.DeploymentPage{}, registry.Reading{}, nil
	}
	reply, err := d.Do(ctx, c)
	return reply, registry.Reading{}, err
}

func (d *desk) Trail(context.Context, string, uint64, int, func(*history.Entry) bool) ([]history.Entry, uint64, error) {
	return nil, 0, nil
}

// room is a console with somebody of every role for acme, and an owner of everything, signed in.
type room struct {
	*desk
	handler http.Handler
	secrets map[string]apikey.Secret
	cookies map[string]*http.Cookie
}

func newRoom(t *testing.T) *room {
	r := &room{desk: &desk{admins: map[events.Digest]registry.Admin{}}, secrets: map[string]apikey.Secret{}, cookies: map[string]*http.Cookie{}}
	r.handler = New(r.desk, slog.New(slog.DiscardHandler))
	for _, name := range []string{"viewer", "editor", "owner", "root"} {
		a := registry.Admin{Key: events.NewID(), Name: name, Role: registry.Role(name), Scope: "acme"}
		if name == "root" {
			a.Role, a.Scope = registry.Owner, registry.EveryProject
		}
		r.secrets[name] = apikey.Generate()
		r.admins[r.secrets[name].Digest()] = a
		answer := r.send(name, http.MethodPost, "/signin", url.Values{"key": {r.secrets[name].Reveal()}})
		require.Equal(t, http.StatusSeeOther, answer.Code)
		r.cookies[name] = cookie(t, answer)
	}
	return r
}

func (r *room) send(who, method, path string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c := r.cookies[who]; c != nil {
		request.AddCookie(c)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, request)
	return w
}

func cookie(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	c, err := http.ParseSetCookie(w.Header().Get("Set-Cookie"))
	require.NoError(t, err)
	return c
}

// TestAccess has every role visit every page in its own project, in another and in the system's.
func TestAccess(t *testing.T) {
	r := newRoom(t)
	rank := map[string]int{"viewer": 1, "editor": 2, "owner": 3}
	for _, p := range pages {
		if p.role == "" {
			continue
		}
		method, pattern, _ := strings.Cut(p.pattern, " ")
		for _, project := range []string{"acme", "other", "_admin"} {
			path := strings.NewReplacer("{project}", project, "{name}", "no-such", "{seq}", "1", "{$}", "").Replace(pattern)
			ofProject := strings.Contains(pattern, "{project}")
			for who, have := range rank {
				refused := have < rank[string(p.role)] || (ofProject && project != "acme")
				got := r.send(who, method, path, nil).Code
				assert.Equal(t, refused, got == http.StatusForbidden, "%s: %s %s: %d", who, method, path, got)
			}
			assert.NotEqual(t, http.StatusForbidden, r.send("root", method, path, nil).Code, path)
			nobody := r.send("", method, path, nil)
			assert.Equal(t, "/signin", nobody.Header().Get("Location"), path)
		}
	}
	for _, c := range r.asked {
		if c.Actor != r.actor("root") && c.Project != "" && c.Project != registry.AdminProject {
			assert.Equal(t, "acme", c.Project, "%s asked beyond its project", c.Actor)
		}
	}
}

func (r *room) actor(name string) string {
	a := r.admins[r.secrets[name].Digest()]
	return a.Actor()
}

func TestSessions(t *testing.T) {
	r := newRoom(t)
	c := r.cookies["viewer"]
	assert.True(t, c.HttpOnly)
	assert.Equal(t, http.SameSiteStrictMode, c.SameSite)
	assert.False(t, c.Secure, "the request came over plain HTTP")
	secure := r.send("", http.MethodPost, "/signin", url.Values{"key": {r.secrets["viewer"].Reveal()}}, "X-Forwarded-Proto", "https")
	assert.True(t, cookie(t, secure).Secure)

	for _, key := range []string{"", "kf_nonsense", apikey.Generate().Reveal()} {
		refused := r.send("", http.MethodPost, "/signin", url.Values{"key": {key}})
		assert.Equal(t, http.StatusUnauthorized, refused.Code)
		assert.Empty(t, refused.Header().Get("Set-Cookie"))
	}

	const page = "/projects/acme/audit"
	assert.Equal(t, http.StatusOK, r.send("viewer", http.MethodGet, page, nil).Code)
	delete(r.admins, r.secrets["viewer"].Digest())
	assert.Equal(t, http.StatusSeeOther, r.send("viewer", http.MethodGet, page, nil).Code, "a session ends with its admin key")

	was := r.cookies["editor"]
	again := r.send("editor", http.MethodPost, "/signin", url.Values{"key": {r.secrets["editor"].Reveal()}})
	assert.NotEqual(t, was.Value, cookie(t, again).Value)
	assert.Equal(t, http.StatusSeeOther, r.send("editor", http.MethodGet, page, nil).Code, "the session before is over")

	first := r.cookies["root"]
	for range maxOfOneKey {
		delete(r.cookies, "root")
		r.cookies["root"] = cookie(t, r.send("root", http.MethodPost, "/signin", url.Values{"key": {r.secrets["root"].Reveal()}}))
	}
	assert.Equal(t, http.StatusOK, r.send("root", http.MethodGet, page, nil).Code)
	r.cookies["root"] = first
	assert.Equal(t, http.StatusSeeOther, r.send("root", http.MethodGet, page, nil).Code, "one key has so many sessions and no more")

	r.send("owner", http.MethodPost, "/signout", nil)
	assert.Equal(t, http.StatusSeeOther, r.send("owner", http.MethodGet, page, nil).Code)
}

// TestStrangers has other sites send forms: a browser says where they come from.
func TestStrangers(t *testing.T) {
	r := newRoom(t)
	form := url.Values{"name": {"demo-key"}}
	for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		got := r.send("editor", http.MethodPost, "/projects/acme/keys", form, header[0], header[1])
		assert.Equal(t, http.StatusForbidden, got.Code, header)
	}
	assert.Empty(t, r.asked)
	own := r.send("editor", http.MethodPost, "/projects/acme/keys", form, "Sec-Fetch-Site", "same-origin")
	assert.Equal(t, http.StatusOK, own.Code)
	for name, want := range map[string]string{
		"Content-Security-Policy": "script-src 'self'", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
	} {
		assert.Contains(t, own.Header().Get(name), want)
	}
}

// TestStaticFiles keeps files in browsers for as long as they are what the pages name.
func TestStaticFiles(t *testing.T) {
	r := newRoom(t)
	for _, name := range []string{"console.css", "console.js", "icon.svg"} {
		got := r.send("", http.MethodGet, staticURL(name), nil)
		require.Equal(t, http.StatusOK, got.Code, name)
		assert.Contains(t, got.Header().Get("Cache-Control"), "immutable")
		assert.NotContains(t, got.Header().Get("Content-Type"), "text/plain")
	}
	assert.Equal(t, http.StatusNotFound, r.send("", http.MethodGet, "/static/console.js?v=another", nil).Code)
	assert.Equal(t, http.StatusNotFound, r.send("", http.MethodGet, "/static/", nil).Code)
}

func TestCreate(t *testing.T) {
	r := newRoom(t)
	const keys = "/projects/acme/keys"
	form := url.Values{"name": {"demo-key"}, "expiry": {"date"}, "expires_on": {"2027-01-31"}, "deployments": {"llama", "qwen"}, "command_id": {"c1"}}
	assert.Contains(t, r.send("editor", http.MethodPost, keys, form).Body.String(), "kf_made_here", "without a script the server makes the secret")
	asked := r.asked[0]
	assert.Equal(t, "2027-01-31", *asked.Request.ExpiresAt)
	assert.Equal(t, []string{"llama", "qwen"}, *asked.Request.Deployments)
	assert.Equal(t, "c1", asked.Request.CommandID)
	assert.Equal(t, r.actor("editor"), asked.Actor)

	form.Set("digest", strings.Repeat("a", 64))
	told := r.send("editor", http.MethodPost, keys, form, "Accept", "application/json").Body.String()
	assert.Contains(t, told, `{"location":"/projects/acme/keys/demo-key","name":"demo-key"}`)

	form.Set("name", "taken")
	form.Set("description", `"><script>alert(1)</script>`)
	again := r.send("editor", http.MethodPost, keys, form).Body.String()
	assert.Contains(t, again, "&lt;b&gt;nothing&lt;/b&gt; is known here")
	assert.NotContains(t, again, "<script>alert", "what was sent is shown as text")
	assert.Contains(t, again, `value="taken"`)
	refused := r.send("editor", http.MethodPost, keys, form, "Accept", "application/json")
	assert.Equal(t, http.StatusNotFound, refused.Code)
}
