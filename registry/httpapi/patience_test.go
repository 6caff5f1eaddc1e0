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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/httpapi"
)

// line is a caller's connection: it tells until when it is waited for.
type line struct {
	*httptest.ResponseRecorder
	body io.Reader

	mu                      sync.Mutex // an import goes on reading while its lines are carried out
	readUntil, writeUntil   time.Time
	bodyBounded, restFreely bool // what was seen while the body was read, and while the command was carried out
	answerBounded           bool
}

func (l *line) note(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
}

func (l *line) SetReadDeadline(t time.Time) error {
	l.note(func() { l.readUntil = t })
	return nil
}

func (l *line) SetWriteDeadline(t time.Time) error {
	l.note(func() { l.writeUntil = t })
	return nil
}

func (l *line) Read(b []byte) (int, error) {
	l.note(func() { l.bodyBounded = !l.readUntil.IsZero() })
	return l.body.Read(b)
}

func (l *line) Write(b []byte) (int, error) {
	l.note(func() { l.answerBounded = !l.writeUntil.IsZero() })
	return l.ResponseRecorder.Write(b)
}

// desk lets everybody in, and carries nothing out.
type desk struct{ *line }

func (d desk) Admit(events.Digest) (registry.Admin, error) {
	return registry.Admin{Role: registry.Owner, Scope: registry.EveryProject}, nil
}

func (d desk) Do(context.Context, registry.Command) (any, error) {
	d.note(func() { d.restFreely = d.readUntil.IsZero() && d.writeUntil.IsZero() })
	return &registry.KeyReply{}, nil
}

func (d desk) DoAll(ctx context.Context, cmds []registry.Command, answer func(int, any, error)) {
	for i := range cmds {
		reply, err := d.Do(ctx, cmds[i])
		answer(i, reply, err)
	}
}

func (d desk) Look(ctx context.Context, c registry.Command) (any, registry.Reading, error) {
	reply, err := d.Do(ctx, c)
	return reply, registry.Reading{}, err
}

// A caller that sends or reads as slowly as it can is cut off. One that waits for a verdict is not: were its connection still
// bounded by then, the server would give its command up.
func TestCallersAreWaitedForWithinBounds(t *testing.T) {
	const keys = "/cloud/v3/inference/acme/api_keys"
	for _, c := range []struct{ method, path, body string }{
		{http.MethodPost, keys + "?wait=confirmed", `{"name":"demo-key"}`},
		{http.MethodDelete, keys + "/demo-key?wait=confirmed", `{}`},
		{http.MethodGet, keys + "/demo-key", `{}`},
		{http.MethodPost, keys + "/import", `{"name":"demo-key","digest":"` + strings.Repeat("a", 64) + `"}`},
	} {
		l := &line{ResponseRecorder: httptest.NewRecorder(), body: strings.NewReader(c.body)}
		r := httptest.NewRequest(c.method, c.path, l)
		r.Header.Set("Authorization", "APIKey "+apikey.Generate().Reveal())
		httpapi.New(desk{l}, slog.New(slog.DiscardHandler)).ServeHTTP(l, r)
		require.Less(t, l.Code, 300, c.path)
		assert.True(t, l.bodyBounded, c.path)
		assert.True(t, l.restFreely || strings.HasSuffix(c.path, "import"), c.path)
		assert.True(t, l.answerBounded || l.Code == http.StatusNoContent, c.path)
	}
	nobody := &line{ResponseRecorder: httptest.NewRecorder(), body: strings.NewReader("")}
	httpapi.New(desk{nobody}, slog.New(slog.DiscardHandler)).ServeHTTP(nobody, httptest.NewRequest(http.MethodPost, keys, nobody))
	require.Equal(t, http.StatusUnauthorized, nobody.Code)
	assert.False(t, nobody.readUntil.IsZero(), "the server reads what was left unread")
}
