package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowModel is an upstream that answers when it is told to.
type slowModel struct {
	*httptest.Server
	asked, answer chan struct{}
}

func startSlowModel(t *testing.T) *slowModel {
	m := &slowModel{asked: make(chan struct{}, 1), answer: make(chan struct{})}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.asked <- struct{}{}
		select {
		case <-m.answer:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// devWithSlowRequest is a dev that has one request under way, whose status it gives once it is answered.
func devWithSlowRequest(t *testing.T) (*devProcess, *slowModel, chan int) {
	m := startSlowModel(t)
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	dev.request(t, "keyfleet.cmd.demo.dev.deployment.register", `{"name":"slow","upstream":"`+m.URL+`"}`)
	key := dev.request(t, "keyfleet.cmd.demo.dev.key.create", `{"name":"slow-key","deployments":["slow","echo-model"]}`)
	require.Equal(t, http.StatusOK, dev.check(t, key.Secret, uint64(key.Seq)))
	status := make(chan int, 1)
	go func() {
		r, _ := http.NewRequest(http.MethodGet, dev.Gateway+"/slow/v1/models", nil)
		r.Header.Set("X-Api-Key", key.Secret)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			status <- 0
			return
		}
		answer.Body.Close()
		status <- answer.StatusCode
	}()
	<-m.asked
	return dev, m, status
}

func (d *devProcess) awaitStopping(t *testing.T) {
	t.Helper()
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return strings.Contains(d.stderr.String(), "stopping; a second signal kills") },
		10*time.Second, time.Millisecond)
}

func TestStoppingLetsRequestsEnd(t *testing.T) {
	dev, model, status := devWithSlowRequest(t)
	dev.awaitStopping(t)
	close(model.answer)
	require.Equal(t, http.StatusOK, <-status)
	<-dev.ended
	require.Equal(t, statusDone, dev.cmd.ProcessState.ExitCode())
}

func TestASecondSignalKills(t *testing.T) {
	dev, _, status := devWithSlowRequest(t)
	dev.awaitStopping(t)
	begun := time.Now()
	require.NoError(t, dev.cmd.Process.Signal(syscall.SIGTERM))
	<-dev.ended
	require.Less(t, time.Since(begun), drainTime)
	require.NotEqual(t, statusDone, dev.cmd.ProcessState.ExitCode())
	require.NotEqual(t, http.StatusOK, <-status)
}

// TestAPartThatDoesNotStop: the process ends all the same, and leaves what that part still uses.
func TestAPartThatDoesNotStop(t *testing.T) {
	stop := &stopping{log: slog.New(slog.DiscardHandler)}
	ended := ""
	part := func(name string) func() error { return func() error { ended += name; return nil } }
	stop.then("its directory", part("directory "))
	stop.thenWithin(0, "a part on a disk that fails", func() error { select {} })
	stop.then("its listener", part("listener "))
	err := stop.stop()
	require.ErrorContains(t, err, "a part on a disk that fails has not stopped")
	require.Equal(t, statusUnavailable, failureOf(err).status)
	require.Equal(t, "listener ", ended)
}
