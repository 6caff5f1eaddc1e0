package verifier

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/projections"
)

func TestKeyOpensWhatItIsAttachedTo(t *testing.T) {
	w := newWorld(t).run()
	echo, other := w.deployment("echo"), w.deployment("other")
	k := w.key(echo)
	w.caughtUp()

	a := w.check(k.secret, "echo")
	require.True(t, a.Allowed())
	require.Equal(t, k.id, a.Key)
	require.Equal(t, "demo", a.Project)
	require.Equal(t, echo, a.Deployment.ID)
	require.Equal(t, w.last.Seq, a.Seq)
	require.False(t, a.Stale)

	w.requireReason(projections.NotAttached, k.secret, "other")
	w.requireReason(projections.NoDeployment, k.secret, "nowhere")
	w.tell(k.id, &events.Attached{Deployments: []events.DeploymentID{other}}, &events.Detached{Deployments: []events.DeploymentID{echo}})
	w.requireReason(projections.Allowed, k.secret, "other")
	w.requireReason(projections.NotAttached, k.secret, "echo")

	stranger := w.v.Check(t.Context(), Request{Project: "another", Deployment: "echo", Key: k.secret})
	require.Equal(t, projections.NoDeployment, stranger.Reason)
	require.Equal(t, other, w.v.DeploymentAt("demo", "other.test").ID)
	require.Nil(t, w.v.DeploymentAt("another", "other.test"))
}

func TestKeyThatIsNoneIsRefused(t *testing.T) {
	w := newWorld(t).run()
	w.deployment("echo")
	w.caughtUp()
	typo := newKey().secret
	typo[20] ^= 1
	for reason, presented := range map[projections.Reason][]string{
		projections.Missing:   {""},
		projections.Malformed: {"x", string(typo), "sk-" + strings.Repeat("a", 48), strings.Repeat("k", MaxKeyBytes+1)},
		projections.Unknown:   {apikey.Generate().Reveal()},
	} {
		for _, p := range presented {
			a := w.v.Check(t.Context(), Request{Project: "demo", Deployment: "echo", Key: []byte(p)})
			require.Equal(t, reason.String(), a.Reason.String())
			require.Zero(t, a.Key)
		}
	}
}

func TestKeyIsDeadAtItsInstant(t *testing.T) {
	w := newWorld(t).run()
	k := newKey()
	w.tell(k.id, &events.Created{
		Digest: k.digest, Deployments: []events.DeploymentID{w.deployment("echo")},
		ExpiresAt: events.InstantOf(noon.Add(time.Second)),
	})
	w.caughtUp()
	w.clock.Advance(time.Second - time.Millisecond)
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.clock.Advance(time.Millisecond)
	w.requireReason(projections.KeyExpired, k.secret, "echo")
	w.clock.Step(noon)
	w.requireReason(projections.Allowed, k.secret, "echo") // nobody has vouched for another time
	w.tell(k.id, &events.Expired{ExpiresAt: events.InstantOf(noon.Add(time.Second))})
	w.requireReason(projections.KeyExpired, k.secret, "echo")
	w.tell(k.id, &events.ExpiryChanged{ExpiresAt: events.Never})
	w.requireReason(projections.Allowed, k.secret, "echo")
}

func TestKeyLivesAsTheLogSays(t *testing.T) {
	w := newWorld(t).run()
	k := w.key(w.deployment("echo"))
	w.caughtUp()
	w.tell(k.id, &events.Disabled{})
	w.requireReason(projections.KeyDisabled, k.secret, "echo")
	w.tell(k.id, &events.Enabled{})
	w.requireReason(projections.Allowed, k.secret, "echo")

	second, third := newKey(), newKey()
	w.tell(k.id, &events.Rotated{Digest: second.digest, GraceUntil: events.InstantOf(noon.Add(time.Hour))})
	w.requireReason(projections.Allowed, second.secret, "echo")
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.clock.Step(noon.Add(time.Hour))
	w.requireReason(projections.RotatedOut, k.secret, "echo")
	w.tell(k.id, &events.GraceEnded{GraceUntil: events.InstantOf(noon.Add(time.Hour))})
	w.requireReason(projections.Unknown, k.secret, "echo")
	w.tell(k.id, &events.Rotated{Digest: third.digest})
	w.requireReason(projections.Unknown, second.secret, "echo")
	w.requireReason(projections.Allowed, third.secret, "echo")
	w.tell(k.id, &events.Deleted{})
	w.requireReason(projections.Unknown, third.secret, "echo")
}

func TestDeploymentRegisteredAgainIsANewOne(t *testing.T) {
	w := newWorld(t).run()
	echo := w.deployment("echo")
	old := w.key(echo)
	w.caughtUp()
	w.requireReason(projections.Allowed, old.secret, "echo")
	w.tell(echo, &events.DeploymentRemoved{})
	w.requireReason(projections.NoDeployment, old.secret, "echo")
	again := w.key(w.deployment("echo"))
	w.requireReason(projections.NotAttached, old.secret, "echo")
	w.requireReason(projections.Allowed, again.secret, "echo")
}

func TestForeignKeysAreLookedUpOnceThereAreAny(t *testing.T) {
	w := newWorld(t).run()
	echo := w.deployment("echo")
	w.caughtUp()
	sk := []byte("sk-from-elsewhere")
	w.requireReason(projections.Malformed, sk, "echo")
	w.tell(newID(), &events.Created{
		Digest: apikey.DigestOf(sk), Deployments: []events.DeploymentID{echo}, ExpiresAt: events.Never, Foreign: true,
	})
	w.requireReason(projections.Unknown, newKey().secret, "echo") // waits, as noise does not
	w.requireReason(projections.Allowed, sk, "echo")
	w.requireReason(projections.Unknown, []byte("sk-other"), "echo")
	w.requireReason(projections.Malformed, bytes.Repeat([]byte("k"), MaxKeyBytes+1), "echo")
}

func TestCheckWaitsForItsMinSeq(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MinSeqWait = 20 * time.Second }).run()
	echo := w.deployment("echo")
	w.caughtUp()
	k := newKey()
	answers, next := make(chan Answer), w.last.Seq+1
	for range 8 {
		go func() {
			answers <- w.v.Check(context.Background(), Request{Project: "demo", Deployment: "echo", Key: k.secret, MinSeq: next})
		}()
	}
	require.Eventually(t, func() bool { return w.v.tally.waiting.Load() == 8 }, 10*time.Second, time.Millisecond)
	w.tell(k.id, &events.Created{Digest: k.digest, Deployments: []events.DeploymentID{echo}, ExpiresAt: events.Never})
	for range 8 {
		require.True(t, (<-answers).Allowed())
	}
}

func TestMinSeqIsBounded(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MinSeqWait = time.Millisecond; o.MinSeqWaiters = 1 }).run()
	k := w.key(w.deployment("echo"))
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	ask := func(change func(*Request)) string {
		r := Request{Project: "demo", Deployment: "echo", Key: k.secret, MinSeq: w.last.Seq}
		change(&r)
		return w.v.Check(t.Context(), r).Reason.String()
	}
	require.Equal(t, "behind_min_seq", ask(func(r *Request) { r.MinSeq++ }), "not in time")
	require.Equal(t, "allowed", ask(func(r *Request) { r.Incarnation = w.last.Incarnation }))
	require.Equal(t, "behind_min_seq", ask(func(r *Request) { r.Incarnation = events.Incarnation{9} }), "another log")
	require.Equal(t, "behind_min_seq", ask(func(r *Request) { r.Incarnation = events.Incarnation{9}; r.MinSeq = 0 }), "another log")

	w.v.opts.MinSeqWait = time.Hour // what follows does not wait at all
	require.Equal(t, "behind_min_seq", ask(func(r *Request) { r.MinSeq += farAhead + 1 }), "absurd")
	require.Equal(t, "behind_min_seq", ask(func(r *Request) { r.MinSeq++; r.Key = []byte("noise") }))
	require.Equal(t, "missing", ask(func(r *Request) { r.MinSeq++; r.Key = nil }))
	w.v.tally.waiting.Add(1)
	require.Equal(t, "behind_min_seq", ask(func(r *Request) { r.MinSeq++ }), "too many wait")
	w.v.tally.waiting.Add(-1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := Request{Project: "demo", Deployment: "echo", Key: k.secret, MinSeq: w.last.Seq + 1}
	require.Equal(t, "behind_min_seq", w.v.Check(ctx, r).Reason.String(), "the caller is gone")
}

func TestNoSecretIsLoggedCountedOrStored(t *testing.T) {
	var logged bytes.Buffer
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Metrics = registry
	})
	w.run()
	k := w.key(w.deployment("echo"))
	w.caughtUp()
	w.requireReason(projections.Allowed, k.secret, "echo")
	w.check([]byte("hunter2hunter2"), "echo")
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	metrics := answer.Body.Bytes()
	for _, line := range []string{
		`keyfleet_verifier_ready 1`, `keyfleet_verifier_applied_seq 3`, `keyfleet_verifier_events_applied_total 3`,
		`keyfleet_verifier_lag_events 0`, `keyfleet_verifier_staleness_seconds 0`, `keyfleet_verifier_state{state="serving"} 1`,
		`keyfleet_verifier_state{state="lapsed"} 0`, `keyfleet_verifier_checks_total{reason="allowed"} 1`,
		`keyfleet_verifier_checks_total{reason="malformed"} 1`, `keyfleet_verifier_checks_total{reason="unknown"} 0`,
	} {
		require.Contains(t, string(metrics), line+"\n")
	}
	require.NoError(t, w.v.idx.Close())
	seen := append(metrics, logged.Bytes()...)
	require.NoError(t, filepath.Walk(w.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			var content []byte
			content, err = os.ReadFile(path)
			seen = append(seen, content...)
		}
		return err
	}))
	require.Contains(t, string(seen), string(k.digest[:]), "the disk was looked at")
	for _, secret := range []string{string(k.secret), string(k.secret[3:40]), "hunter2"} {
		require.NotContains(t, string(seen), secret)
	}
}
