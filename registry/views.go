package registry

import (
	"slices"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/projections/history"
)

// KeyView is a key as callers see it.
type KeyView struct {
	ID              string          `json:"id"`
	Name            string          `json:"name"`
	Description     *string         `json:"description"`
	CreatedAt       events.Instant  `json:"created_at"`
	ExpiresAt       *events.Instant `json:"expires_at"`             // null: never
	ExpiresSoon     bool            `json:"expires_soon,omitempty"` // alive, and not for longer than Soon
	DeploymentNames []string        `json:"deployment_names"`
	Hint            string          `json:"hint"`
	Status          Status          `json:"status"`
	Rev             uint64          `json:"rev"`
	Seq             events.Seq      `json:"seq"`                   // of its last event; in replies to commands, the command's last
	LastUsedAt      *events.Instant `json:"last_used_at"`          // as far as verifiers have reported; null: never
	Uses            uint64          `json:"uses"`                  // checks that passed, as far as they have reported
	GraceUntil      *events.Instant `json:"grace_until,omitempty"` // until when the secret before the last rotation opens
	Role            string          `json:"role,omitempty"`
	Scope           string          `json:"scope,omitempty"`
}

// Status is what a key is good for at the moment of reading.
type Status string

// The statuses. Deleted is seen only in the reply to the deletion.
const (
	Active   Status = "active"
	Expired  Status = "expired"
	Disabled Status = "disabled"
	Deleted  Status = "deleted"
)

// DeploymentView is a deployment as callers see it.
type DeploymentView struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Upstream  string         `json:"upstream"`
	Host      string         `json:"host"`
	CreatedAt events.Instant `json:"created_at"`
	Keys      []string       `json:"keys,omitempty"`      // names of those attached, up to 1,000, in deployment.get
	KeyCount  *int           `json:"key_count,omitempty"` // of all that are attached, in deployment.get
	Rev       uint64         `json:"rev"`
	Seq       events.Seq     `json:"seq"`
}

// KeyReply answers a command on one key, or key.get.
type KeyReply struct {
	KeyView
	Secret string `json:"secret,omitempty"` // once, and only where the registry made it
	Answer
}

// DeploymentReply answers a command on one deployment, or deployment.get.
type DeploymentReply struct {
	DeploymentView
	Answer
}

// Answer is what replies to commands say besides their subject.
type Answer struct {
	Confirmation *Confirmation `json:"confirmation,omitempty"`
	Replayed     bool          `json:"replayed,omitempty"` // the command id had taken effect before
	Note         string        `json:"note,omitempty"`
}

func (a *Answer) answer() *Answer { return a }

// KeyPage answers key.list.
type KeyPage struct {
	Count   int        `json:"count"` // of all that match, whatever the page
	Results []KeyView  `json:"results"`
	Seq     events.Seq `json:"seq"`
}

// DeploymentPage answers deployment.list.
type DeploymentPage struct {
	Count   int              `json:"count"`
	Results []DeploymentView `json:"results"`
	Seq     events.Seq       `json:"seq"`
}

// ProjectPage answers project.list.
type ProjectPage struct {
	Count   int           `json:"count"`
	Results []ProjectView `json:"results"`
	Seq     events.Seq    `json:"seq"`
}

// ProjectView is a project as callers see it.
type ProjectView struct {
	Name        string         `json:"name"`
	CreatedAt   events.Instant `json:"created_at"`
	Keys        int            `json:"keys"`
	Deployments int            `json:"deployments"`
}

// HistoryPage answers key.history, the newest event first.
type HistoryPage struct {
	Count   int             `json:"count"`
	Results []history.Entry `json:"results"`
	Seq     events.Seq      `json:"seq"`
}

// viewKey renders a key at the instant now.
func viewKey(s State, k *projections.Key, used catalog.Usage, now events.Instant) (KeyView, error) {
	v := KeyView{
		ID: k.ID.String(), Name: k.Name, CreatedAt: k.CreatedAt, Hint: k.Hint,
		Status: statusOf(k, now), Rev: k.Rev, Seq: k.Seq, Role: k.Role, Scope: k.Scope,
		DeploymentNames: make([]string, 0, len(k.Deployments)),
	}
	if k.Description != "" {
		v.Description = &k.Description
	}
	if !k.ExpiresAt.IsNever() {
		v.ExpiresAt = &k.ExpiresAt
	}
	v.ExpiresSoon = v.Status == Active && expiresSoon(k.ExpiresAt, now)
	if now < k.Grace.Until {
		v.GraceUntil = &k.Grace.Until
	}
	if v.Uses = used.Uses; used.Last > 0 {
		v.LastUsedAt = &used.Last
	}
	for _, id := range k.Deployments {
		d, err := s.Deployment(id)
		if err != nil {
			return v, err
		}
		if d.Exists() {
			v.DeploymentNames = append(v.DeploymentNames, d.Name)
		}
	}
	slices.Sort(v.DeploymentNames)
	return v, nil
}

func statusOf(k *projections.Key, now events.Instant) Status {
	switch {
	case k.Disabled:
		return Disabled
	case k.Expired || now >= k.ExpiresAt:
		return Expired
	default:
		return Active
	}
}

func viewDeployment(d *projections.Deployment) DeploymentView {
	return DeploymentView{
		ID: d.ID.String(), Name: d.Name, Upstream: d.Upstream, Host: d.Host,
		CreatedAt: d.CreatedAt, Rev: d.Rev, Seq: d.Seq,
	}
}
