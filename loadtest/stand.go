package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/socket"
)

// stand is a fleet of servers, a process each, on a log with keys in it.
type stand struct {
	keyfleet string
	dir      string
	keys     []string // their texts
	ids      []events.KeyID
	patience time.Duration // with servers that have to read the log first
	logKey   string        // that signs grants
	url      string        // of the NATS server
	nc       *nats.Conn

	nats, registry, upstream *process
	others                   []*process
	edge                     *edgeProcess // verifier and gateway that scenarios share
	gateway                  *process
}

// edgeProcess is a verifier of the stand.
type edgeProcess struct {
	*process
	socket string
}

// keepAll has scenarios show any of the keys. keepLast has one that does not keep more in memory than it needs.
func (s *stand) keepAll(text string, id events.KeyID) {
	s.keys, s.ids = append(s.keys, text), append(s.ids, id)
}

func (s *stand) keepLast(text string, id events.KeyID) {
	s.keys, s.ids = []string{text}, []events.KeyID{id}
}

// newStand starts servers on a new log with so many keys. A registry leads when it returns.
func newStand(ctx context.Context, b *bench, keys int, keep func(*stand, string, events.KeyID)) (s *stand, err error) {
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return nil, err
	}
	s = &stand{keyfleet: b.keyfleet, dir: dir, patience: startTimeout + time.Duration(keys)*200*time.Microsecond}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	for _, step := range []func(context.Context) error{
		s.startNATS, s.openLog,
		func(ctx context.Context) error {
			return seed(ctx, s.nc, "http://"+s.upstream.addresses["http"], keys, func(text string, id events.KeyID) { keep(s, text, id) })
		},
		s.startRegistry,
	} {
		if err := step(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *stand) startNATS(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if s.nats, err = startProcess(ctx, s.patience, self, "serve", "nats", "--data", filepath.Join(s.dir, "nats")); err != nil {
		return err
	}
	if s.upstream, err = startProcess(ctx, s.patience, self, "serve", "upstream"); err != nil {
		return err
	}
	s.url = "nats://" + s.nats.addresses["nats"]
	s.nc, err = nats.Connect(s.url, nats.Name("loadtest"))
	return err
}

func (s *stand) openLog(ctx context.Context) error {
	said, err := exec.CommandContext(ctx, s.keyfleet, "init", "--json", "--nats", s.url, "--actor", actor, "--signing-key", s.signingKey()).Output()
	if err != nil {
		return fmt.Errorf("%s init: %w", s.keyfleet, err)
	}
	var opened struct {
		SigningKey string `json:"signing_key"`
	}
	err = json.Unmarshal(said, &opened)
	s.logKey = opened.SigningKey
	return err
}

func (s *stand) signingKey() string { return filepath.Join(s.dir, "signing.pem") }

func (s *stand) startRegistry(ctx context.Context) (err error) {
	s.registry, err = startProcess(ctx, s.patience, s.keyfleet, "registry", "--name", "hub", "--nats", s.url,
		"--system-nats", "nats://"+operator+":"+operator+"@"+s.nats.addresses["nats"], "--signing-key", s.signingKey(),
		"--data", filepath.Join(s.dir, "registry"), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	return s.client().Do(ctx, registry.ProjectList, registry.Request{}, nil) // waits until it leads
}

func (s *stand) client() *natsapi.Client { return s.clientOver(s.nc) }

func (s *stand) clientOver(nc *nats.Conn) *natsapi.Client {
	return natsapi.NewClient(nc, project, actor)
}

// startVerifier starts one that answers in every way, and returns once it does.
func (s *stand) startVerifier(ctx context.Context, name string) (*edgeProcess, error) {
	path := filepath.Join(s.dir, name+".sock")
	p, err := startProcess(ctx, s.patience, s.keyfleet, "verifier", "--name", name, "--log-key", s.logKey, "--nats", s.url,
		"--data", filepath.Join(s.dir, name), "--run", filepath.Join(s.dir, name+".run"), "--log-level", "info",
		"--check", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--socket", path, "--ext-authz", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.others = append(s.others, p)
	c, err := socket.Dial(path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return &edgeProcess{p, path}, await(ctx, s.patience, name+" to answer", func() bool {
		a, err := c.Check(ctx, verifier.Request{Project: project, Deployment: deployment, Key: []byte(s.keys[len(s.keys)-1])})
		return err == nil && a.Allowed()
	})
}

func (s *stand) startGateway(ctx context.Context) (err error) {
	s.gateway, err = startProcess(ctx, s.patience, s.keyfleet, "gateway", "--name", "gateway", "--log-key", s.logKey, "--nats", s.url, "--project", project,
		"--data", filepath.Join(s.dir, "gateway"), "--run", filepath.Join(s.dir, "gateway.run"), "--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.others = append(s.others, s.gateway)
	c, err := dialHTTP(s.gateway.addresses["gateway"], "/"+deployment+"/")
	if err != nil {
		return err
	}
	return await(ctx, s.patience, "the gateway to answer", func() bool {
		status, err := c.ask(ctx, s.keys[len(s.keys)-1])
		return err == nil && status == statusAllowed
	})
}

// await asks until it is so.
func await(ctx context.Context, patience time.Duration, what string, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !so() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// shared gives the stand that scenarios share, with a verifier and a gateway.
func (b *bench) shared(ctx context.Context) (*stand, error) {
	if b.common != nil {
		return b.common, nil
	}
	s, err := newStand(ctx, b, b.keys, (*stand).keepAll)
	if err != nil {
		return nil, err
	}
	b.common = s
	if s.edge, err = s.startVerifier(ctx, "edge"); err != nil {
		return nil, err
	}
	return s, s.startGateway(ctx)
}

// stop ends everything, the log's server last.
func (s *stand) stop() {
	if s == nil {
		return
	}
	if s.nc != nil {
		s.nc.Close()
	}
	var all sync.WaitGroup
	for _, p := range append(s.others, s.upstream) {
		if p != nil {
			all.Go(p.stop)
		}
	}
	all.Wait()
	for _, p := range []*process{s.registry, s.nats} {
		if p != nil {
			p.stop()
		}
	}
	_ = os.RemoveAll(s.dir)
}
