package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/verifier"
)

const defaultAdmin = "http://127.0.0.1:8182"

// fleetReport is what keyfleet fleet tells. Verifiers holds the one that was asked.
type fleetReport struct {
	Verifiers []verifierReport `json:"verifiers"`
	Note      string           `json:"note"`
}

type verifierReport struct {
	Admin       string         `json:"admin"` // where it was asked
	State       verifier.State `json:"state"`
	Ready       bool           `json:"ready"`
	Why         string         `json:"why,omitempty"`
	Applied     events.Seq     `json:"applied"`
	Newest      events.Seq     `json:"newest"` // head known to it
	StalenessMs int64          `json:"staleness_ms"`
}

const fleetNote = "one verifier, asked by itself: verifiers do not report to the registry yet, so there is no list of the fleet and nothing is confirmed"

func (a *app) fleetCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Show how a verifier fares",
		Long: `Asks one verifier's admin listener how it fares. Verifiers do not report to the registry yet: the list of the whole
fleet, and confirmation of revocations, come with signed leases.

Exit status: 0 it answers checks, 3 it does not.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&address, "admin", "", "address of the verifier's admin listener (default: that of dev.json, else "+defaultAdmin+")")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, base, err := a.locateListener(address, "admin", defaultAdmin)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), a.client.timeout)
		defer cancel()
		v, err := askReadiness(ctx, base)
		if err != nil {
			return err
		}
		if err := a.show(fleetReport{[]verifierReport{v}, fleetNote}, v.table); err != nil {
			return err
		}
		a.say("\n%s", fleetNote)
		if !v.Ready {
			return silent(statusUnavailable)
		}
		return nil
	}
	return a.asClient(cmd)
}

func askReadiness(ctx context.Context, base string) (verifierReport, error) {
	v := verifierReport{Admin: base}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return v, usageError("--admin: %v", err)
	}
	response, err := toVerifier.Do(request)
	if err != nil {
		return v, unavailableError("no verifier answers at %s; start one, or name another with --admin (%v)", base, causeOf(err))
	}
	defer response.Body.Close()
	var body struct {
		State       verifier.State
		Ready       bool
		Why         string
		Position    struct{ Seq events.Seq }
		Newest      events.Seq
		StalenessMs int64 `json:"staleness_ms"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxProblem)).Decode(&body); err != nil || body.State == "" {
		return v, unavailableError("%s answers, but not as a verifier does; name a verifier's admin listener with --admin", base)
	}
	v.State, v.Ready, v.Why = body.State, body.Ready, body.Why
	v.Applied, v.Newest, v.StalenessMs = body.Position.Seq, body.Newest, body.StalenessMs
	return v, nil
}

func (v verifierReport) table(w io.Writer) error {
	t := table{head: []string{"VERIFIER", "STATE", "ANSWERS", "APPLIED", "NEWEST", "STALENESS", "WHY"}}
	answers := map[bool]string{true: "yes", false: "no"}[v.Ready]
	t.add(v.Admin, string(v.State), answers, fmt.Sprint(v.Applied), fmt.Sprint(v.Newest),
		(time.Duration(v.StalenessMs) * time.Millisecond).String(), orDash(v.Why))
	return t.write(w)
}
