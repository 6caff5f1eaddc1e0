package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/console"
	"github.com/keyfleet/keyfleet/registry/httpapi"
)

// restHandler is all that a registry serves to admins over HTTP.
func restHandler(s *registry.Service, log *slog.Logger) http.Handler {
	rest := httpapi.New(s, log)
	mux := http.NewServeMux()
	for _, path := range []string{"/cloud/", "/v1/", "/openapi.json", "/docs/api"} {
		mux.Handle(path, rest)
	}
	mux.Handle("/", console.New(s, log))
	return mux
}

// serveREST answers at once, from what is folded in, and takes writes while the registry leads.
func (r *registryParts) serveREST(ctx context.Context, stop *stopping, at net.Listener) {
	serveHTTP(stop, "REST", at, newServer(restHandler(r.service, stop.log)), stop.log, r.fail)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.letSomebodyIn(ctx, stop.log)
	}()
	stop.then("first admin key", func() error { cancel(); <-done; return nil })
}

// letSomebodyIn waits until this registry leads, which a standby may never do.
func (r *registryParts) letSomebodyIn(ctx context.Context, log *slog.Logger) {
	select {
	case <-r.watch.led: //nolint:errcheck // there is never an error in it // there is never an error in it
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		err := r.makeFirstAdmin(ctx, log)
		if err == nil {
			return
		}
		log.Warn("no first admin key could be made yet", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

const (
	firstAdminName = "first-admin"
	firstAdminFile = "first-admin-key" // in the registry's directory: a log would keep the secret for longer than anybody needs it
	firstAdminOnce = "registry:first-admin"
)

// makeFirstAdmin lets somebody in where nobody can be yet: where the log has never had an admin key. Crash windows: the secret is
// written before the key is created, and used again by the next attempt if there is one.
func (r *registryParts) makeFirstAdmin(ctx context.Context, log *slog.Logger) error {
	do := func(verb registry.Verb, request registry.Request) (any, error) {
		return r.service.Do(ctx, registry.Command{Project: registry.AdminProject, Actor: registryActor, Verb: verb, Request: request})
	}
	reply, err := do(registry.ProjectList, registry.Request{Search: registry.AdminProject})
	if err != nil {
		return err
	}
	if all, ok := reply.(*registry.ProjectPage); !ok || all.Count > 0 {
		return nil
	}
	path := filepath.Join(r.data, firstAdminFile)
	secret, err := keptSecret(path)
	if err != nil {
		return err
	}
	description := "made by the registry; its secret was in " + firstAdminFile
	_, err = do(registry.KeyCreate, registry.Request{
		Name: firstAdminName, Role: string(registry.Owner), Scope: registry.EveryProject, Description: &description,
		Digest: secret.Digest().String(), Hint: secret.Hint(), CommandID: firstAdminOnce,
	})
	if err == nil {
		log.Info("the first admin key was made: take its secret from the file, and remove that", "key", firstAdminName, "file", path)
	}
	return err
}

const registryActor = "_registry" // that a registry itself is recorded under

// keptSecret is the secret in a file, which is made with a new one, as a whole, if it is not there.
func keptSecret(path string) (apikey.Secret, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return apikey.Parse(strings.TrimSpace(string(text)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return apikey.Secret{}, err
	}
	secret := apikey.Generate()
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return secret, err
	}
	_, err = temporary.WriteString(secret.Reveal() + "\n")
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
	return secret, err
}

func expiringSoon(s *registry.Service) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keyfleet_registry_keys_expiring_soon", Help: "Keys that expire within 30 days.",
	}, func() float64 {
		n, err := s.ExpiringSoon()
		if err != nil {
			return 0
		}
		return float64(n)
	})
}
