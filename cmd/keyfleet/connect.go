package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/registry/natsapi"
)

// clientFlags say where the registry is and who is asking.
type clientFlags struct {
	nats string
	access
	data    string
	project string
	actor   string
	timeout time.Duration
	mirror  bool // nats has a copy of the log, not the log
}

// asClient gives a command, and those below it, the flags of clients.
func (a *app) asClient(cmd *cobra.Command) *cobra.Command {
	f, c := cmd.PersistentFlags(), &a.client
	f.StringVar(&c.project, "project", "", "project that keys and deployments belong to (default: that of dev.json, else "+defaultProject+")")
	f.StringVar(&c.actor, "actor", "", "name under which commands are recorded (default: that of dev.json, else the user's name)")
	return a.asReader(cmd)
}

// asReader gives a command, and those below it, the flags that say where the servers are.
func (a *app) asReader(cmd *cobra.Command) *cobra.Command {
	f, c := cmd.PersistentFlags(), &a.client
	f.StringVar(&c.nats, "nats", "", "NATS server to talk to (default: that of a keyfleet dev under --data, else "+defaultNATS+")")
	c.access.addTo(f)
	f.StringVar(&c.data, "data", defaultData, "directory of a keyfleet dev: its dev.json says where it listens")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	return cmd
}

// place is where clients find what they need, once flags, dev.json and defaults are weighed.
type place struct {
	devFile
	from string // of the NATS address, for people
}

// locate finds the servers. A dev.json speaks only for its own servers: who names another NATS server means
// that one's project and actor too.
func (c *clientFlags) locate() (place, error) {
	p := place{from: "as --nats says"}
	p.NATS = c.nats
	if c.nats == "" {
		found, err := readDevFile(devFilePath(c.data))
		if err != nil {
			return p, err
		}
		p.devFile, p.from = found, "as "+devFilePath(c.data)+" says"
	}
	if p.NATS == "" {
		p.NATS, p.from = defaultNATS, "the default"
	}
	p.Project = cmp.Or(c.project, p.Project, defaultProject)
	p.Actor = cmp.Or(c.actor, p.Actor, userName())
	return p, nil
}

var notInActors = regexp.MustCompile(`[^-_a-z0-9]+`)

// userName makes an actor's name of the user's.
func userName() string {
	name := notInActors.ReplaceAllString(strings.ToLower(cmp.Or(os.Getenv("USER"), os.Getenv("USERNAME"))), "-")
	name = strings.TrimLeft(name, "-_")
	return cmp.Or(name[:min(len(name), 63)], "nobody")
}

// connect dials the NATS server.
func (c *clientFlags) connect(p place) (*nats.Conn, error) {
	opts := []nats.Option{nats.Name("keyfleet " + p.Actor), nats.Timeout(2 * time.Second)}
	signIn, err := c.access.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(p.NATS, append(opts, signIn...)...)
	switch {
	case err == nil:
		return nc, nil
	case errors.Is(err, nats.ErrNoServers):
		return nil, unavailableError("no NATS server answers at %s (%s); start one with keyfleet dev, or name another with --nats",
			withoutPassword(p.NATS), p.from)
	case isUnknownAuthority(err):
		return nil, unavailableError("the NATS server at %s is not known: %v; name the certificates by which it is with --tls-ca", withoutPassword(p.NATS), err)
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return nil, refusedError(registry.Forbidden, "the NATS server at %s does not let you in; give credentials with --creds", withoutPassword(p.NATS))
	default:
		return nil, unavailableError("cannot talk to the NATS server at %s (%s): %v", withoutPassword(p.NATS), p.from, err)
	}
}

// withoutPassword is a list of NATS URLs as it may be shown.
func withoutPassword(list string) string {
	urls := strings.Split(list, ",")
	for i, text := range urls {
		if u, err := url.Parse(strings.TrimSpace(text)); err == nil {
			urls[i] = u.Redacted()
		} else {
			urls[i] = "(not a URL)"
		}
	}
	return strings.Join(urls, ",")
}

// session is a connection to the registry, on behalf of an actor, in a project.
type session struct {
	place
	nc      *nats.Conn
	client  *natsapi.Client
	timeout time.Duration
	watch   func(*registry.Confirmation) // is shown what is still pending
}

func (a *app) session() (*session, error) {
	p, err := a.client.locate()
	if err != nil {
		return nil, err
	}
	nc, err := a.client.connect(p)
	if err != nil {
		return nil, err
	}
	return &session{place: p, nc: nc, client: natsapi.NewClient(nc, p.Project, p.Actor), timeout: a.client.timeout, watch: a.watchConfirmation()}, nil
}

func (s *session) close() { s.nc.Close() }

// do carries out one command or query. One that waits for the fleet is followed on the way.
func (s *session) do(ctx context.Context, verb registry.Verb, request registry.Request, reply any) error {
	if request.Wait != registry.WaitConfirmed {
		return s.ask(ctx, s.timeout, verb, request, reply)
	}
	patience := confirmPatience(request.WaitTimeout)
	deadline := time.Now().Add(patience)
	request.WaitTimeout = min(patience, firstWait).String()
	if err := s.ask(ctx, s.timeout+firstWait, verb, request, reply); err != nil {
		return err
	}
	s.awaitVerdict(ctx, deadline, reply)
	return nil
}

func (s *session) ask(ctx context.Context, patience time.Duration, verb registry.Verb, request registry.Request, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.client.Do(ctx, verb, request, reply)
}

// withSession runs what needs a session.
func (a *app) withSession(do func(*session) error) error {
	s, err := a.session()
	if err != nil {
		return err
	}
	defer s.close()
	return do(s)
}

// serverURL makes an http:// URL of what people write for one.
func serverURL(address string) string {
	if strings.Contains(address, "://") {
		return strings.TrimRight(address, "/")
	}
	return fmt.Sprintf("http://%s", strings.TrimRight(address, "/"))
}
