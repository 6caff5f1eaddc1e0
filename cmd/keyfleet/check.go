package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/registry"
	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

const defaultCheck = "http://127.0.0.1:8181"

// verdict is what keyfleet check tells.
type verdict struct {
	Allowed     bool   `json:"allowed"`
	Reason      string `json:"reason"`
	Status      int    `json:"status,omitempty"` // of the verifier's answer; absent if it was not asked
	Message     string `json:"message"`
	Project     string `json:"project"`
	Deployment  string `json:"deployment"`
	KeyID       string `json:"key_id,omitempty"`
	Seq         uint64 `json:"seq,omitempty"` // of the state that the verifier decided from
	StalenessMs *int64 `json:"staleness_ms,omitempty"`
	RequestID   string `json:"request_id,omitempty"`
}

// reasonUnavailable is the only reason that is no Reason: the verifier keeps the precise one to itself.
const reasonUnavailable = "unavailable"

func (a *app) checkCommand() *cobra.Command {
	var address, deployment, minSeq string
	cmd := &cobra.Command{
		Use:   "check --deployment NAME",
		Short: "Ask a verifier whether the key on standard input opens a deployment",
		Long: `Asks a verifier over HTTP whether the key on standard input opens a deployment. A verifier never says why it
refuses; the reason shown with a refusal is looked up in the registry by the key's digest, where one answers.

Exit status: 0 allowed, 1 refused, 3 the verifier cannot say.`,
		Example: `  echo $KEY | keyfleet check --deployment echo-model`,
		Args:    cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&address, "check", "", "address of the verifier's check listener (default: that of dev.json, else "+defaultCheck+")")
	f.StringVar(&deployment, "deployment", "", "deployment to open (required)")
	a.completesFlag(cmd, "deployment", registry.DeploymentList)
	f.StringVar(&minSeq, "min-seq", "", "answer from a state at least this new: a Seq, or incarnation:Seq")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if deployment == "" {
			return usageError("name the deployment to open with --deployment")
		}
		key, err := a.readKey()
		if err != nil {
			return err
		}
		p, base, err := a.locateListener(address, "check", defaultCheck)
		if err != nil {
			return err
		}
		v := &verdict{Project: p.Project, Deployment: deployment}
		if err := a.check(cmd.Context(), v, base, key, minSeq); err != nil {
			return err
		}
		return a.tellVerdict(v)
	}
	return a.asClient(cmd)
}

// locateListener gives the address of one of a verifier's HTTP listeners.
func (a *app) locateListener(flag, name, otherwise string) (p place, base string, err error) {
	if p, err = a.client.locate(); err != nil {
		return p, "", err
	}
	known := p.devFile
	if a.client.nats != "" { // the registry is elsewhere, but the verifier may still be dev's
		if known, err = readDevFile(devFilePath(a.client.data)); err != nil {
			return p, "", err
		}
	}
	listener := map[string]string{"check": known.Check, "admin": known.Admin}[name]
	return p, serverURL(cmp.Or(flag, listener, otherwise)), nil
}

func (a *app) check(ctx context.Context, v *verdict, base, key, minSeq string) error {
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		v.Reason, v.Message = projections.Malformed.String(), "What stands on standard input is no key: it has characters that no key has."
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.client.timeout)
	defer cancel()
	if err := askVerifier(ctx, v, base, key, minSeq); err != nil {
		return err
	}
	switch v.Status {
	case http.StatusOK:
		v.Allowed, v.Reason = true, projections.Allowed.String()
		v.Message = "The key opens the deployment."
	case http.StatusUnauthorized, http.StatusForbidden:
		v.Reason = a.reasonOf(ctx, v, key)
	default:
		v.Reason = reasonUnavailable
	}
	return nil
}

// toVerifier follows no redirects: they would carry the key to wherever they lead.
var toVerifier = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func askVerifier(ctx context.Context, v *verdict, base, key, minSeq string) error {
	target := base + "/v1/check/" + url.PathEscape(v.Project) + "/" + url.PathEscape(v.Deployment)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return usageError("--check: %v", err)
	}
	if key != "" {
		request.Header.Set(httpcheck.KeyHeader, key)
	}
	if minSeq != "" {
		request.Header.Set("Keyfleet-Min-Seq", minSeq)
	}
	response, err := toVerifier.Do(request)
	if err != nil {
		return unavailableError("no verifier answers at %s; start one, or name another with --check (%v)", base, causeOf(err))
	}
	defer response.Body.Close()
	v.Status = response.StatusCode
	v.KeyID = response.Header.Get(httpcheck.KeyIDHeader)
	v.RequestID = response.Header.Get(httpcheck.RequestIDHeader)
	v.Seq, _ = strconv.ParseUint(response.Header.Get("Keyfleet-Seq"), 10, 64)
	if ms, err := strconv.ParseInt(response.Header.Get("Keyfleet-Staleness-Ms"), 10, 64); err == nil {
		v.StalenessMs = &ms
	}
	return v.readProblem(response)
}

// maxProblem is more than any answer of a verifier.
const maxProblem = 64 << 10

// readProblem reads why not, and tells a verifier from whatever else may listen there.
func (v *verdict) readProblem(response *http.Response) error {
	if v.Status == http.StatusOK && v.KeyID != "" {
		return nil
	}
	var p httpcheck.Problem
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	answers := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}
	if err != nil || p.Detail == "" || !slices.Contains(answers, v.Status) {
		return unavailableError("%s answers, but not as a verifier does; name a verifier's check listener with --check", response.Request.URL.Host)
	}
	v.Message = p.Detail
	if v.Status == http.StatusBadRequest {
		return usageError("%s", p.Detail)
	}
	return nil
}

// causeOf leaves out the URL, which the message has already.
func causeOf(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// lookupTimeout bounds the question to the registry, which is a courtesy.
const lookupTimeout = 2 * time.Second

// reasonOf finds out why a key was refused: by looking at it, and by asking the registry whose it is.
func (a *app) reasonOf(ctx context.Context, v *verdict, key string) string {
	general := map[int]string{http.StatusUnauthorized: "unauthenticated", http.StatusForbidden: "forbidden"}[v.Status]
	switch {
	case key == "":
		return projections.Missing.String()
	case strings.HasPrefix(key, apikey.Prefix) && !apikey.WellFormed([]byte(key)):
		return projections.Malformed.String()
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	reason := general
	_ = a.withSession(func(s *session) error {
		reason = cmp.Or(reasonByRegistry(ctx, s, v, key), general)
		return nil
	})
	return reason
}

// reasonByRegistry is empty where the registry's state does not explain the answer: it may be newer than
// the verifier's.
func reasonByRegistry(ctx context.Context, s *session, v *verdict, key string) string {
	var reply registry.KeyReply
	err := s.do(ctx, registry.KeyIdentify, registry.Request{Digest: apikey.DigestOf([]byte(key)).String()}, &reply)
	var refusal *registry.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Code == registry.NotFound && v.Status == http.StatusUnauthorized:
		return projections.Unknown.String()
	case err != nil:
		return ""
	case v.Status == http.StatusUnauthorized && reply.Status == registry.Expired:
		return projections.KeyExpired.String()
	case v.Status == http.StatusUnauthorized && reply.Status == registry.Disabled:
		return projections.KeyDisabled.String()
	case v.Status == http.StatusForbidden:
		var d registry.DeploymentReply
		err := s.do(ctx, registry.DeploymentGet, registry.Request{Name: v.Deployment}, &d)
		if errors.As(err, &refusal) && refusal.Code == registry.NotFound {
			return projections.NoDeployment.String()
		}
		return projections.NotAttached.String()
	}
	return ""
}

func (a *app) tellVerdict(v *verdict) error {
	err := a.show(v, func(w io.Writer) error {
		t := table{rows: [][]string{{"decision", v.decision()}, {"reason", v.Reason}, {"deployment", v.Project + "/" + v.Deployment}}}
		if v.KeyID != "" {
			t.add("key id", v.KeyID)
		}
		if v.Seq > 0 {
			t.add("decided at seq", strconv.FormatUint(v.Seq, 10))
		}
		if v.StalenessMs != nil {
			t.add("staleness", (time.Duration(*v.StalenessMs) * time.Millisecond).String())
		}
		if !v.Allowed {
			t.add("answer", fmt.Sprintf("%s %s", statusText(v.Status), v.Message))
		}
		return t.write(w)
	})
	switch {
	case err != nil:
		return err
	case v.Allowed:
		return nil
	case v.Reason == reasonUnavailable:
		return silent(statusUnavailable)
	default:
		return silent(statusRefused)
	}
}

func (v *verdict) decision() string {
	switch {
	case v.Allowed:
		return "allowed"
	case v.Reason == reasonUnavailable:
		return "unavailable"
	default:
		return "refused"
	}
}

func statusText(status int) string {
	if status == 0 {
		return "not asked:"
	}
	return strconv.Itoa(status) + " " + http.StatusText(status) + ":"
}
