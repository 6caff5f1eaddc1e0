package registry

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// Verb names what a command or a query does: noun.verb, as in its NATS subject.
type Verb string

// The verbs.
const (
	KeyCreate   Verb = "key.create"
	KeyEdit     Verb = "key.edit"
	KeyAttach   Verb = "key.attach"
	KeyDetach   Verb = "key.detach"
	KeyExpire   Verb = "key.expire"
	KeyDisable  Verb = "key.disable"
	KeyEnable   Verb = "key.enable"
	KeyRotate   Verb = "key.rotate"
	KeyDelete   Verb = "key.delete"
	KeyGet      Verb = "key.get"
	KeyList     Verb = "key.list"
	KeyHistory  Verb = "key.history"
	KeyIdentify Verb = "key.identify"

	DeploymentRegister Verb = "deployment.register"
	DeploymentEdit     Verb = "deployment.edit"
	DeploymentRemove   Verb = "deployment.remove"
	DeploymentGet      Verb = "deployment.get"
	DeploymentList     Verb = "deployment.list"

	ProjectList Verb = "project.list"

	FleetStatus  Verb = "fleet.status"
	FleetConfirm Verb = "fleet.confirm"
	FleetRelease Verb = "fleet.release"
	FleetLease   Verb = "fleet.lease"

	FleetAddSigningKey    Verb = "fleet.add-signing-key"
	FleetRetireSigningKey Verb = "fleet.retire-signing-key"

	FleetCheckpoint Verb = "fleet.checkpoint"

	// What only a registry tells itself. No request names these.
	memberJoins  Verb = "_joins"
	memberLeaves Verb = "_leaves"
)

// Command is one call of an actor on a project. Commands that change something are decided by
// Decide; the others are queries.
type Command struct {
	Project string
	Actor   string
	Verb    Verb
	Request Request

	finger [16]byte         // kept by fingerprint
	member *member          // of memberJoins and memberLeaves
	signs  events.PublicKey // of FleetRetireSigningKey: what the registry signs with
}

// Request is a command's fields, as they are sent. Absent is nil or empty; what a verb does not
// take is refused, never ignored.
type Request struct {
	CommandID string `json:"command_id,omitempty"` // makes retries safe: one effect per id

	Key         string    `json:"key,omitempty"`         // id or name of the key that is meant
	Name        string    `json:"name,omitempty"`        // the name to give; of a deployment, the one that is meant
	Description *string   `json:"description,omitempty"` // "" clears
	Deployments *[]string `json:"deployments,omitempty"` // names or ids
	ExpiresAt   *string   `json:"expires_at,omitempty"`  // as events.ParseInstant reads it
	Grace       *string   `json:"grace,omitempty"`       // as ParseDuration reads it; default 24h, at most 30d
	Digest      string    `json:"digest,omitempty"`      // hexadecimal SHA-256 of a secret made elsewhere
	Hint        string    `json:"hint,omitempty"`        // goes with Digest
	ExpectRev   *uint64   `json:"expect_rev,omitempty"`  // refuse unless the key is at this revision
	Role        string    `json:"role,omitempty"`        // of a new admin key
	Scope       string    `json:"scope,omitempty"`       // of a new admin key: a project or *

	Upstream *string `json:"upstream,omitempty"`
	Host     *string `json:"host,omitempty"`

	Limit   int    `json:"limit,omitempty"`  // 1 to 1000, default 100
	Offset  int    `json:"offset,omitempty"` // how many results to pass over
	OrderBy string `json:"order_by,omitempty"`
	Search  string `json:"search,omitempty"`

	Instance string `json:"instance,omitempty"` // id of a verifier's instance
	Reason   string `json:"reason,omitempty"`   // why a scrapped verifier is released
	Lease    string `json:"lease,omitempty"`    // as ParseDuration reads it
	Seq      uint64 `json:"seq,omitempty"`      // whose verdict is asked for

	SigningKey string `json:"signing_key,omitempty"` // public half, hexadecimal

	Wait        string `json:"wait,omitempty"`         // recorded (default) or confirmed
	WaitTimeout string `json:"wait_timeout,omitempty"` // as ParseDuration reads it; default 30s
}

// verbRule says what a verb takes. Fields are the JSON names of Request.
type verbRule struct {
	fields   string // that it may carry, besides those of writeFields or none
	required string
	query    bool
}

// allowed is all that the verb's requests may carry.
func (r verbRule) allowed() string {
	if r.query {
		return r.fields
	}
	return r.fields + " " + writeFields
}

const (
	writeFields = "command_id wait wait_timeout"
	pageFields  = "limit offset order_by search"
)

var verbs = map[Verb]verbRule{
	KeyCreate:   {fields: "name description deployments expires_at digest hint role scope", required: "name"},
	KeyEdit:     {fields: "key name description deployments expires_at expect_rev", required: "key"},
	KeyAttach:   {fields: "key deployments expect_rev", required: "key deployments"},
	KeyDetach:   {fields: "key deployments expect_rev", required: "key deployments"},
	KeyExpire:   {fields: "key expires_at expect_rev", required: "key expires_at"},
	KeyDisable:  {fields: "key expect_rev", required: "key"},
	KeyEnable:   {fields: "key expect_rev", required: "key"},
	KeyRotate:   {fields: "key grace digest hint expect_rev", required: "key"},
	KeyDelete:   {fields: "key expect_rev", required: "key"},
	KeyGet:      {fields: "key", required: "key", query: true},
	KeyList:     {fields: pageFields, query: true},
	KeyHistory:  {fields: "key limit offset", required: "key", query: true},
	KeyIdentify: {fields: "digest", required: "digest", query: true},

	DeploymentRegister: {fields: "name upstream host", required: "name"},
	DeploymentEdit:     {fields: "name upstream host expect_rev", required: "name"},
	DeploymentRemove:   {fields: "name expect_rev", required: "name"},
	DeploymentGet:      {fields: "name", required: "name", query: true},
	DeploymentList:     {fields: pageFields, query: true},

	ProjectList: {fields: pageFields, query: true},

	FleetStatus:  {query: true},
	FleetConfirm: {fields: "seq wait_timeout", required: "seq", query: true},
	FleetRelease: {fields: "instance reason", required: "instance reason"},
	FleetLease:   {fields: "lease", required: "lease"},

	FleetAddSigningKey:    {fields: "signing_key", required: "signing_key"},
	FleetRetireSigningKey: {fields: "signing_key", required: "signing_key"},

	FleetCheckpoint: {query: true},
}

// Verbs are all there are, sorted.
func Verbs() []Verb {
	all := make([]Verb, 0, len(verbs))
	for v := range verbs {
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}

// IsQuery reports whether the verb changes nothing.
func (v Verb) IsQuery() bool { return verbs[v].query }

// IsFleetWide reports whether the verb is about no project: its commands name none.
func (v Verb) IsFleetWide() bool { return strings.HasPrefix(string(v), "fleet.") }

// check refuses what no state can make right: names of no form, unknown verbs, fields that the
// verb does not take or lacks.
func (c *Command) check() error {
	rule, known := verbs[c.Verb]
	if !known {
		return refuse(Invalid, "%q is no command; the commands are %s", c.Verb, verbList())
	}
	if err := c.checkNames(); err != nil {
		return refuse(Invalid, "%v", err)
	}
	sent, fields := c.Request.sent(), fieldsOf[c.Verb]
	if field := (sent &^ fields.allowed).first(); field != "" {
		return refuseField(field, "%s takes no %s; it takes %s", c.Verb, field, strings.ReplaceAll(rule.allowed(), " ", ", "))
	}
	if field := (fields.required &^ sent).first(); field != "" {
		return refuseField(field, "%s needs %s", c.Verb, field)
	}
	if d := c.Request.Deployments; d != nil && len(*d) > events.MaxDeploymentsPerKey {
		return tooMany(len(*d))
	}
	return c.Request.checkWait()
}

func (c *Command) checkNames() error {
	project := events.CheckProject(c.Project)
	if c.Verb.IsFleetWide() {
		project = nil
		if c.Project != "" {
			project = fmt.Errorf("%s is about the whole fleet, not about project %q", c.Verb, c.Project)
		}
	}
	return cmp.Or(project, events.CheckActor(c.Actor), events.CheckCommandID(c.Request.CommandID))
}

func verbList() string {
	names := make([]string, 0, len(verbs))
	for _, v := range Verbs() {
		names = append(names, string(v))
	}
	return strings.Join(names, " ")
}

// fingerprint is what makes two requests under one command id the same: everything but the id and how
// long to wait. It is in the log (events.Admin.Request): its form never changes.
func (c *Command) fingerprint() [16]byte {
	if c.finger != ([16]byte{}) {
		return c.finger
	}
	var room [512]byte // what most need
	text := append(append(room[:0], c.Verb...), '\n')
	sum := sha256.Sum256(c.Request.appendJSON(text, c.Request.sent()&^notInFingerprint))
	c.finger = [16]byte(sum[:16])
	return c.finger
}

// What a caller may wait for.
const (
	WaitRecorded  = "recorded"
	WaitConfirmed = "confirmed"
)

func (r *Request) checkWait() error {
	if r.Wait != "" && r.Wait != WaitRecorded && r.Wait != WaitConfirmed {
		return refuseField("wait", "wait is recorded or confirmed, not %q", r.Wait)
	}
	if r.WaitTimeout != "" {
		if _, err := ParseDuration(r.WaitTimeout); err != nil {
			return refuseField("wait_timeout", "wait_timeout: %v", err)
		}
	}
	return nil
}

// ParseDuration reads durations as time.ParseDuration does, and whole days such as 30d; 0 needs no
// unit. Negative ones are refused.
func ParseDuration(s string) (time.Duration, error) {
	if number, ok := strings.CutSuffix(s, "d"); ok {
		if days, err := strconv.ParseUint(number, 10, 16); err == nil {
			return time.Duration(days) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration; write 90s, 24h, 30d or 0", s)
	}
	return d, nil
}
