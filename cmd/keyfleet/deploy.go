package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/projections"
)

func (a *app) deployCommand() *cobra.Command {
	return group("deploy", "Write the configuration of a cluster with PoPs, and set up their copies of the log",
		a.deployInit(), a.deployAdmit(), a.deployMirror())
}

// fleetPlan is what deploy init was asked for.
type fleetPlan struct {
	Hosts    []string // of the hub
	pops     []string
	auditors []string
	admins   []string // PROJECT/ACTOR
	owners   []string
	past     string
	lease    time.Duration
}

func (a *app) deployInit() *cobra.Command {
	var plan fleetPlan
	cmd := &cobra.Command{
		Use:   "init DIR --hub HOST --hub HOST --hub HOST --pop NAME",
		Short: "Write configuration and credentials for NATS servers, registries, admins, PoPs and auditors",
		Long: `Writes one directory of files for each machine: configuration of the hub's NATS servers and of each PoP's own, and
credentials that let everyone do what they must, and nothing else. DIR/keys holds the private keys of all of that: keep it
where no server is. With the same DIR again, and more names, the fleet grows; credentials that are there are left alone.
Who is not named again is let in no more, once the hub's servers have read the new files.

--lease says how long verifiers answer without hearing of a registry. With a short one, an outage of the hub or of a PoP's line
stops checks sooner. With a long one, a revocation waits longer for a PoP that is cut off before it is over everywhere. keyfleet
fleet lease changes it later.

--past-lease says what verifiers do once their lease is over. deny: they answer 503, so that an outage of the hub that lasts
longer stops every check, and a revocation is over after that time at the latest. serve: they answer on from what they know,
marked stale, and a revocation is not confirmed before a PoP that is cut off is back.`,
		Example: `  keyfleet deploy init fleet --hub hub1.example.org --hub hub2.example.org --hub hub3.example.org \
    --pop ams --pop fra --admin acme/alice --owner root --auditor ada`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringSliceVar(&plan.Hosts, "hub", nil, "host of a NATS server that keeps the log: one, three or five of them (required)")
	f.StringSliceVar(&plan.pops, "pop", nil, "name of a PoP, and of its verifier")
	f.StringSliceVar(&plan.admins, "admin", nil, "PROJECT/ACTOR: who may command in a project, and under which name")
	f.StringSliceVar(&plan.owners, "owner", nil, "actor who may look after the fleet: release verifiers that are lost")
	f.StringSliceVar(&plan.auditors, "auditor", nil, "name of an auditor, who has a copy of the log as a PoP has, and no verifier")
	f.DurationVar(&plan.lease, "lease", projections.DefaultLease, "how long verifiers answer without hearing of a registry")
	f.StringVar(&plan.past, "past-lease", string(events.ModeDeny), "deny or serve: what verifiers do once their lease is over")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := plan.check(); err != nil {
			return err
		}
		written, err := plan.write(args[0])
		if err != nil {
			return err
		}
		for _, who := range plan.leftOut(args[0]) {
			a.say("%s was not named, and is let in no more once the hub's servers have read the new files", who)
		}
		return a.show(written, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, strings.Join(written, "\n"))
			return err
		})
	}
	return cmd
}

func (p *fleetPlan) check() error {
	if n := len(p.Hosts); n%2 == 0 || n > 5 {
		return flagError("hub", "one, three or five hosts, not %d: a log is kept by a majority of its servers", n)
	}
	for _, host := range p.Hosts {
		if strings.ContainsAny(host, ":/\"\\ \t\n{}$#") || host == "" {
			return flagError("hub", "a host's name or IPv4 address, without a port, not %q", host)
		}
	}
	if p.past != string(events.ModeDeny) && p.past != string(events.ModeServe) {
		return flagError("past-lease", "deny or serve, not %q", p.past)
	}
	if err := projections.CheckLease(p.lease); err != nil {
		return flagError("lease", "%v", err)
	}
	seen := map[string]bool{"hub": true} // the JetStream domain of the hub
	for _, name := range append(p.pops[:len(p.pops):len(p.pops)], p.auditors...) {
		if err := checkOwn(name); err != nil {
			return flagError("pop", "%q: %v", name, err)
		}
		if seen[name] {
			return flagError("pop", "%q is taken: PoPs and auditors are told apart by their names", name)
		}
		seen[name] = true
	}
	for _, name := range p.owners {
		if err := checkOwn(name); err != nil {
			return flagError("owner", "%q: %v", name, err)
		}
	}
	for _, admin := range p.admins {
		project, actor, both := strings.Cut(admin, "/")
		if !both || checkOwn(project) != nil || checkOwn(actor) != nil {
			return flagError("admin", "PROJECT/ACTOR, as in acme/alice, not %q", admin)
		}
	}
	return nil
}

// checkOwn refuses what a subject cannot hold, and the system's own names.
func checkOwn(name string) error {
	if events.SystemName(name) {
		return fmt.Errorf("names that begin with _ are the system's own")
	}
	return events.CheckActor(name)
}

func (a *app) deployAdmit() *cobra.Command {
	return a.copyCommand(&cobra.Command{
		Use:   "admit NAME…",
		Short: "Let the hub feed a PoP's or an auditor's copy of the log",
		Long: `Makes, at the hub, the consumer that feeds the copy: with what the copy is to keep, so give --keep here and to keyfleet deploy
mirror alike. To admit one again does no harm to a copy that is well, and is how one whose disk was lost becomes complete.`,
		Example: `  keyfleet deploy admit ams --nats nats://hub1.example.org --creds fleet/hub/setup.creds
  keyfleet deploy admit ada --nats nats://hub1.example.org --creds fleet/hub/setup.creds --keep 0`,
		Args: cobra.MinimumNArgs(1),
	}, eventlog.Admit)
}

func (a *app) deployMirror() *cobra.Command {
	return a.copyCommand(&cobra.Command{
		Use:   "mirror NAME",
		Short: "Make the copy of the log on a PoP's own NATS server",
		Long: `Makes the stream that the hub feeds, and that verifiers or auditors of this place read. A PoP's keeps the newest part of
the log: a verifier that is new, or was away for longer than that, begins from a snapshot, which it fetches from the hub. An
auditor needs all of the log: --keep 0.`,
		Example: `  keyfleet deploy mirror ams --nats nats://127.0.0.1:4222 --creds setup.creds
  keyfleet deploy mirror ada --nats nats://127.0.0.1:4222 --creds setup.creds --keep 0`,
		Args: cobra.ExactArgs(1),
	}, eventlog.CreateMirror)
}

// leastKept of a copy of the log is a commit as large as one can be, twice over.
const leastKept = 2 * events.MaxCommitBytes

// copyCommand does something about copies of the log that keep so many bytes of it.
func (a *app) copyCommand(cmd *cobra.Command, do func(ctx context.Context, nc *nats.Conn, name string, keep int64) error) *cobra.Command {
	var keep int64
	cmd.Flags().Int64Var(&keep, "keep", 4<<30, "how many bytes of the log's newest part the copy keeps; 0 keeps all of the log")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if keep < 0 || keep > 0 && keep < leastKept {
			return flagError("keep", "0, or at least %d bytes, not %d", leastKept, keep)
		}
		return a.setUp(cmd, names, func(ctx context.Context, nc *nats.Conn, name string) error { return do(ctx, nc, name, keep) })
	}
	return a.asReader(cmd)
}

// setUp does what is to be done for each of the sites.
func (a *app) setUp(cmd *cobra.Command, names []string, do func(context.Context, *nats.Conn, string) error) error {
	p, err := a.client.locate()
	if err != nil {
		return err
	}
	nc, err := a.client.connect(p)
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, name := range names {
		if err := checkOwn(name); err != nil {
			return usageError("%q: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), a.client.timeout)
		err := do(ctx, nc, name)
		cancel()
		if err != nil {
			return err
		}
		a.say("%s: done", name)
	}
	return nil
}
