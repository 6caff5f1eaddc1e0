package console

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
)

// How long a session lasts without a visit, and at most, and how many there may be: of one admin key few, so that nobody who has
// one keeps others out.
const (
	idleTime    = time.Hour
	sessionTime = 12 * time.Hour
	maxSessions = 10_000
	maxOfOneKey = 20
)

const sessionCookie = "keyfleet_session"

// sessions are kept in memory: a restart, and another registry, ask to sign in again. They hold digests, of admin keys and
// of cookies, so that nothing here opens anything.
type sessions struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]*session
}

type session struct {
	key         events.Digest // of the admin key, which is looked at anew on each visit
	begun, last time.Time
}

func newSessions() *sessions { return &sessions{of: map[[sha256.Size]byte]*session{}} }

func (s *session) over(now time.Time) bool {
	return now.Sub(s.last) > idleTime || now.Sub(s.begun) > sessionTime
}

// begin gives the text of a new session's cookie.
func (s *sessions) begin(key events.Digest) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var oldest [sha256.Size]byte // of the key's
	ofKey := 0
	for id, each := range s.of {
		switch {
		case each.over(now):
			delete(s.of, id)
		case each.key == key:
			if ofKey++; ofKey == 1 || each.last.Before(s.of[oldest].last) {
				oldest = id
			}
		}
	}
	if ofKey >= maxOfOneKey {
		delete(s.of, oldest)
	}
	if len(s.of) >= maxSessions {
		return "", &registry.Refusal{Code: registry.Unavailable, Message: "too many people are signed in; try again later"}
	}
	text := rand.Text()
	s.of[sha256.Sum256([]byte(text))] = &session{key: key, begun: now, last: now}
	return text, nil
}

func (s *sessions) find(text string) (events.Digest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	each, now := s.of[sha256.Sum256([]byte(text))], time.Now()
	if each == nil || each.over(now) {
		return events.Digest{}, false
	}
	each.last = now
	return each.key, true
}

func (s *sessions) end(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, sha256.Sum256([]byte(text)))
}

func (v *visit) cookie() string {
	c, err := v.r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

func (v *visit) setCookie(text string, age int) {
	http.SetCookie(v.w, &http.Cookie{
		Name: sessionCookie, Value: text, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: v.r.TLS != nil || v.r.Header.Get("X-Forwarded-Proto") == "https",
	})
}

// signedIn reports whether the visitor's admin key still lives.
func (v *visit) signedIn() bool {
	key, found := v.console.sessions.find(v.cookie())
	if !found {
		return false
	}
	var err error
	v.admin, err = v.console.service.Admit(key)
	return err == nil
}

func showSignIn(v *visit) error {
	v.render(http.StatusOK, "signin", "Sign in", nil)
	return nil
}

func signIn(v *visit) error {
	secret, err := apikey.Parse(strings.TrimSpace(v.r.PostFormValue("key")))
	if err == nil {
		_, err = v.console.service.Admit(secret.Digest())
	}
	if errors.Is(err, apikey.ErrForm) || errors.Is(err, registry.ErrNotAdmitted) {
		v.trouble = "This is no living admin key. Copy it again whole, or ask an owner for one."
		v.render(http.StatusUnauthorized, "signin", "Sign in", nil)
		return nil
	}
	if err != nil {
		return err
	}
	text, err := v.console.sessions.begin(secret.Digest())
	if err != nil {
		return err
	}
	v.console.sessions.end(v.cookie()) // the browser forgets it
	v.setCookie(text, int(sessionTime.Seconds()))
	return v.leadTo("/")
}

func signOut(v *visit) error {
	v.console.sessions.end(v.cookie())
	v.setCookie("", -1)
	return v.leadTo("/signin")
}
