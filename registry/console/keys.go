package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/keyfleet/keyfleet/registry"
)

// showHome leads to the keys of the admin's project; who may see all chooses one.
func showHome(v *visit) error {
	if v.admin.Scope != registry.EveryProject {
		v.project = v.admin.Scope
		return v.leadTo(v.of("keys"))
	}
	look := *v
	look.project = registry.AdminProject // from where all can be seen
	all, err := ask[registry.ProjectPage](&look, registry.ProjectList, registry.Request{Limit: 1000})
	if err != nil {
		return err
	}
	if name := v.r.URL.Query().Get("project"); name != "" {
		v.project = name
		return v.leadTo(v.of("keys"))
	}
	v.render(http.StatusOK, "home", "Projects", all)
	return nil
}

const pageSize = 50

// listing is one page of a list, with the addresses of those beside it.
type listing struct {
	*registry.KeyPage
	Search, Order            string
	From, To                 int
	Previous, Next           string
	ByName, ByMade, ByExpiry column
}

// column is a heading that sorts: its address turns the order round if it is in force already.
type column struct {
	URL, Sorted string // Sorted is ascending, descending or none
}

func showKeys(v *visit) error {
	q := v.r.URL.Query()
	offset, _ := strconv.Atoi(q.Get("offset")) // what is no number is the beginning
	l := listing{Search: q.Get("search"), Order: q.Get("order_by")}
	if l.Order == "" {
		l.Order = "name"
	}
	var err error
	l.KeyPage, err = ask[registry.KeyPage](v, registry.KeyList,
		registry.Request{Limit: pageSize, Offset: max(0, offset), OrderBy: l.Order, Search: l.Search})
	if err != nil {
		return err
	}
	l.turnPages(v, max(0, offset))
	l.ByName, l.ByMade, l.ByExpiry = l.column(v, "name"), l.column(v, "created_at"), l.column(v, "expires_at")
	v.render(http.StatusOK, "keys", "API keys", &l)
	return nil
}

func (l *listing) url(v *visit, order string, offset int) string {
	q := url.Values{}
	if l.Search != "" {
		q.Set("search", l.Search)
	}
	q.Set("order_by", order)
	if offset > 0 {
		q.Set("offset", strconv.Itoa(offset))
	}
	return v.of("keys") + "?" + q.Encode()
}

func (l *listing) turnPages(v *visit, offset int) {
	if len(l.Results) > 0 {
		l.From, l.To = offset+1, offset+len(l.Results)
	}
	if offset > 0 {
		l.Previous = l.url(v, l.Order, max(0, offset-pageSize))
	}
	if offset+pageSize < l.Count {
		l.Next = l.url(v, l.Order, offset+pageSize)
	}
}

func (l *listing) column(v *visit, order string) column {
	switch l.Order {
	case order:
		return column{l.url(v, "-"+order, 0), "ascending"}
	case "-" + order:
		return column{l.url(v, order, 0), "descending"}
	default:
		return column{l.url(v, order, 0), "none"}
	}
}

// keyForm is what the pages of one key show.
type keyForm struct {
	Key         *registry.KeyReply // nil for a new one
	Tab         string
	Sent        url.Values // what was sent, where it has to be mended
	Expires     string     // a date; empty for never
	Deployments []choice
	History     *registry.HistoryPage
	Names       map[string]string // of admin keys, by their actors in the history
}

// choice is a deployment that a key may open.
type choice struct {
	Name   string
	Chosen bool
}

// maxChoices is how many deployments a form lists. Those of the key itself are listed in any case.
const maxChoices = 1000

func (v *visit) choices(chosen []string) ([]choice, error) {
	all, err := ask[registry.DeploymentPage](v, registry.DeploymentList, registry.Request{Limit: maxChoices})
	if err != nil {
		return nil, err
	}
	names := slices.Clone(chosen)
	for i := range all.Results {
		names = append(names, all.Results[i].Name)
	}
	slices.Sort(names)
	list := make([]choice, 0, len(names))
	for _, name := range slices.Compact(names) {
		list = append(list, choice{name, slices.Contains(chosen, name)})
	}
	return list, nil
}

func showNewKey(v *visit) error {
	return v.newKey(http.StatusOK, v.r.URL.Query()["deployment"])
}

func (v *visit) newKey(status int, chosen []string) error {
	list, err := v.choices(chosen)
	if err != nil {
		return err
	}
	v.render(status, "key_new", "Create API key", &keyForm{Sent: v.r.PostForm, Expires: v.r.PostFormValue("expires_on"), Deployments: list})
	return nil
}

func createKey(v *visit) error {
	chosen := v.chosen()
	r := registry.Request{
		Name: v.r.PostFormValue("name"), Description: v.text("description"), ExpiresAt: v.expiry(), Deployments: &chosen,
		Digest: v.r.PostFormValue("digest"), Hint: v.r.PostFormValue("hint"),
	}
	if v.project == registry.AdminProject {
		r.Role, r.Scope = v.r.PostFormValue("role"), v.r.PostFormValue("scope")
	}
	made, err := ask[registry.KeyReply](v, registry.KeyCreate, r)
	if v.mendable(err) {
		return v.newKey(http.StatusBadRequest, chosen)
	}
	if err != nil {
		return err
	}
	return v.reveal(made)
}

func (v *visit) chosen() []string {
	_ = v.r.PostFormValue("name") // reads the form
	return slices.Clone(v.r.PostForm["deployments"])
}

// mendable takes in what is wrong with a form; the script is told like of any other refusal.
func (v *visit) mendable(err error) bool {
	var refusal *registry.Refusal
	if err == nil || v.wantsJSON() || !errors.As(err, &refusal) || refusal.Code == registry.Unavailable {
		return false
	}
	v.trouble = refusal.Message
	return true
}

// reveal shows a secret that was made here, once; one that the browser made is there already.
func (v *visit) reveal(key *registry.KeyReply) error {
	to := v.of("keys", key.Name)
	if v.wantsJSON() {
		v.writeJSON(http.StatusOK, map[string]string{"name": key.Name, "location": to})
		return nil
	}
	if key.Secret == "" && !key.Replayed {
		return v.leadTo(to)
	}
	v.render(http.StatusOK, "secret", "The key's secret", key)
	return nil
}

var tabs = []string{"general", "instances", "expiration", "secret", "history", "usage"}

func showKey(v *visit) error { return v.key(http.StatusOK) }

func (v *visit) key(status int) error {
	f := keyForm{Tab: v.r.URL.Query().Get("tab"), Sent: v.r.PostForm}
	if !slices.Contains(tabs, f.Tab) {
		f.Tab = tabs[0]
	}
	var err error
	if f.Key, err = ask[registry.KeyReply](v, registry.KeyGet, registry.Request{Key: v.name()}); err != nil {
		return err
	}
	f.Expires = local(f.Key.ExpiresAt)
	switch f.Tab {
	case "instances":
		f.Deployments, err = v.choices(f.Key.DeploymentNames)
	case "history":
		f.History, err = ask[registry.HistoryPage](v, registry.KeyHistory, registry.Request{Key: f.Key.ID, Limit: 100})
	}
	if err != nil {
		return err
	}
	if f.History != nil {
		f.Names = v.actorNames(f.History.Results)
	}
	v.render(status, "key", f.Key.Name, &f)
	return nil
}

// editKey changes what the tab's form has, and nothing else.
func editKey(v *visit) error {
	r := registry.Request{Key: v.name(), Description: v.text("description"), ExpiresAt: v.expiry()}
	if name := v.text("name"); name != nil {
		r.Name = *name
	}
	if v.text("instances") != nil {
		chosen := v.chosen()
		r.Deployments = &chosen
	}
	if rev, err := strconv.ParseUint(v.r.PostFormValue("rev"), 10, 64); err == nil {
		r.ExpectRev = &rev
	}
	edited, err := ask[registry.KeyReply](v, registry.KeyEdit, r)
	if v.mendable(err) {
		return v.key(http.StatusBadRequest)
	}
	if err != nil {
		return err
	}
	return v.leadTo(v.of("keys", edited.Name) + after("saved", edited.Seq) + "&tab=" + url.QueryEscape(v.r.URL.Query().Get("tab")))
}

func rotateKey(v *visit) error {
	grace := v.r.PostFormValue("grace")
	rotated, err := ask[registry.KeyReply](v, registry.KeyRotate, registry.Request{
		Key: v.name(), Grace: &grace, Digest: v.r.PostFormValue("digest"), Hint: v.r.PostFormValue("hint"),
	})
	if err != nil {
		return err
	}
	return v.reveal(rotated)
}

func switchKey(verb registry.Verb, what string) func(*visit) error {
	return func(v *visit) error {
		key, err := ask[registry.KeyReply](v, verb, registry.Request{Key: v.name()})
		if err != nil {
			return err
		}
		return v.leadTo(v.of("keys", key.Name) + after(what, key.Seq))
	}
}

func askDeleteKey(v *visit) error {
	key, err := ask[registry.KeyReply](v, registry.KeyGet, registry.Request{Key: v.name()})
	if err != nil {
		return err
	}
	v.render(http.StatusOK, "key_delete", "Delete "+key.Name+"?", key)
	return nil
}

// deleteKey answers once it is recorded, and leads to the receipt, which fills up.
func deleteKey(v *visit) error {
	gone, err := ask[registry.KeyReply](v, registry.KeyDelete, registry.Request{Key: v.name(), Wait: registry.WaitConfirmed, WaitTimeout: "0"})
	if err != nil {
		return err
	}
	q := url.Values{"project": {v.project}, "deleted": {gone.Name}}
	return v.leadTo("/receipts/" + strconv.FormatUint(uint64(gone.Seq), 10) + "?" + q.Encode())
}
