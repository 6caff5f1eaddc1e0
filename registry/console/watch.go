package console

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/registry"
)

func showFleet(v *visit) error {
	view, err := ask[registry.FleetView](v, registry.FleetStatus, registry.Request{})
	if err != nil {
		return err
	}
	v.render(http.StatusOK, "fleet", "Fleet", view)
	return nil
}

// receipt is how far a change has come, and where its reader came from.
type receipt struct {
	*registry.ReceiptReply
	Deleted, From string
}

func showReceipt(v *visit) error {
	seq, err := strconv.ParseUint(v.r.PathValue("seq"), 10, 64)
	if err != nil || seq == 0 {
		return &registry.Refusal{Code: registry.Invalid, Message: "a receipt is of a Seq, which is a whole number from 1"}
	}
	reply, err := ask[registry.ReceiptReply](v, registry.FleetConfirm, registry.Request{Seq: seq})
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	if project := q.Get("project"); v.admin.Covers(project) {
		v.project = project
	}
	v.render(http.StatusOK, "receipt", "Receipt", &receipt{reply, q.Get("deleted"), v.project})
	return nil
}

func showIdentify(v *visit) error {
	v.render(http.StatusOK, "identify", "Identify", nil)
	return nil
}

// identify takes a digest, which the script makes of what was typed, or the key itself where there is no script.
func identify(v *visit) error {
	digest := v.r.PostFormValue("digest")
	if digest == "" {
		digest = apikey.DigestOf([]byte(strings.TrimSpace(v.r.PostFormValue("key")))).String()
	}
	owner, err := ask[registry.KeyReply](v, registry.KeyIdentify, registry.Request{Digest: digest})
	if v.mendable(err) {
		v.render(http.StatusNotFound, "identify", "Identify", nil)
		return nil
	}
	if err != nil {
		return err
	}
	v.render(http.StatusOK, "identify", "Identify", owner)
	return nil
}

// trail is what happened in a project.
type trail struct {
	Entries []history.Entry
	Names   map[string]string // of admin keys, by their actors
	Search  string
	Older   uint64 // where to go on; 0 at the beginning
	Newer   bool   // this is not the end
}

const trailPage = 100

func showAudit(v *visit) error {
	q := v.r.URL.Query()
	before, _ := strconv.ParseUint(q.Get("before"), 10, 64) // what is no number is the end
	t := trail{Search: q.Get("search"), Newer: before > 0}
	wanted := strings.ToLower(t.Search)
	var err error
	t.Entries, t.Older, err = v.console.service.Trail(v.r.Context(), v.project, before, trailPage, func(e *history.Entry) bool {
		return wanted == "" || strings.Contains(strings.ToLower(strings.Join([]string{string(e.Type), e.Actor, e.Name, e.Subject, e.Reason}, " ")), wanted)
	})
	if err != nil {
		return err
	}
	t.Names = v.actorNames(t.Entries)
	v.render(http.StatusOK, "audit", "Audit", &t)
	return nil
}

// actorNames finds what admin keys are called that the log names by their ids.
func (v *visit) actorNames(entries []history.Entry) map[string]string {
	names := map[string]string{}
	look := *v
	look.project = registry.AdminProject
	for i := range entries {
		actor := entries[i].Actor
		id, system := strings.CutPrefix(actor, "_")
		if _, known := names[actor]; known || !system {
			continue
		}
		names[actor] = ""
		if key, err := ask[registry.KeyReply](&look, registry.KeyGet, registry.Request{Key: id}); err == nil {
			names[actor] = key.Name
		}
	}
	return names
}
