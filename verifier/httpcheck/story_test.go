package httpcheck_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlogtest"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
	"github.com/keyfleet/keyfleet/verifier/verifiertest"
)

// story is a real verifier on a real port, beside a log in memory.
type story struct {
	*testing.T
	log  *eventlogtest.Memory
	last events.Position
	url  string
}

func begin(t *testing.T) *story {
	s := &story{T: t, log: eventlogtest.NewMemory()}
	first, err := s.log.Last(t.Context())
	require.NoError(t, err)
	s.last = eventlogtest.Behind(first)
	caughtUp := make(chan struct{}, 1)
	hub := verifiertest.New(s.log)
	v, err := verifier.Open(t.TempDir(), verifier.Options{
		Source: s.log, Uplink: hub, Name: "edge", LogKeys: hub.Keys(), CacheBytes: 1 << 20, MinSeqWait: 20 * time.Second,
		Listen: func(e verifier.Event) {
			if _, ok := e.(verifier.CaughtUp); ok {
				caughtUp <- struct{}{}
			}
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- v.Run(ctx) }()
	h, err := httpcheck.New(v, httpcheck.Options{})
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.Close()
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, v.Close())
	})
	s.url = server.URL
	<-caughtUp
	return s
}

func (s *story) tell(subject [16]byte, facts ...events.Fact) {
	s.Helper()
	var es []events.Event
	for i, f := range facts {
		es = append(es, events.Event{Project: "demo", Subject: subject, Rev: uint64(i + 1), Fact: f})
	}
	entry, err := s.log.Append(s.Context(), s.last, eventlogtest.NewCommitOf(s, s.last, es...))
	require.NoError(s, err)
	s.last = eventlogtest.Behind(entry)
}

// secret is that of a key which the facts then befall.
func (s *story) secret(opens [16]byte, facts ...events.Fact) string {
	s.Helper()
	secret := apikey.Generate()
	created := &events.Created{Digest: secret.Digest(), ExpiresAt: events.Never, Deployments: []events.DeploymentID{opens}}
	s.tell(id(), append([]events.Fact{created}, facts...)...)
	return secret.Reveal()
}

func id() [16]byte { d := apikey.Generate().Digest(); return [16]byte(d[:16]) }

func (s *story) check(secret, deployment string) (status int, header http.Header, body string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+"/v1/check/demo/"+deployment, nil)
	require.NoError(s, err)
	r.Header.Set("Authorization", "Bearer "+secret)
	r.Header.Set("Keyfleet-Min-Seq", s.last.Incarnation.String()+":"+strconv.FormatUint(uint64(s.last.Seq), 10))
	answer, err := http.DefaultClient.Do(r)
	require.NoError(s, err)
	defer func() { require.NoError(s, answer.Body.Close()) }()
	read, err := io.ReadAll(answer.Body)
	require.NoError(s, err)
	return answer.StatusCode, answer.Header, string(read)
}

func TestWhatCannotPassLooksAlike(t *testing.T) {
	s := begin(t)
	echo := id()
	s.tell(echo, &events.DeploymentRegistered{Name: "echo"})
	good := s.secret(echo)
	past := events.InstantOf(time.Now()) - 1
	rotated := func(graceUntil events.Instant) events.Fact {
		return &events.Rotated{Digest: apikey.Generate().Digest(), GraceUntil: graceUntil}
	}
	refused := map[string]string{
		"missing": "", "malformed": "noise", "unknown": apikey.Generate().Reveal(),
		"disabled":    s.secret(echo, &events.Disabled{}),
		"expired":     s.secret(echo, &events.ExpiryChanged{ExpiresAt: past}),
		"deleted":     s.secret(echo, &events.Deleted{}),
		"rotated":     s.secret(echo, rotated(0)),
		"rotated out": s.secret(echo, rotated(past)),
	}
	status, header, _ := s.check(good, "echo")
	require.Equal(t, 200, status)
	require.Equal(t, strconv.FormatUint(uint64(s.last.Seq), 10), header.Get("Keyfleet-Seq"))
	status, _, _ = s.check(s.secret(echo, rotated(events.Never)), "echo")
	require.Equal(t, 200, status, "in its grace")
	status, _, _ = s.check(good, "elsewhere")
	require.Equal(t, 403, status)

	var first http.Header
	var firstBody string
	for why, secret := range refused {
		for _, deployment := range []string{"echo", "elsewhere"} {
			status, header, body := s.check(secret, deployment)
			require.Equal(t, 401, status, why)
			header.Del("Date")
			header.Del(httpcheck.RequestIDHeader)
			if first == nil {
				first, firstBody = header, body
			}
			require.Equal(t, first, header, why)
			require.Equal(t, firstBody, body, why)
		}
	}
}
