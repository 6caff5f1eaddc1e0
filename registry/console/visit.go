package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

//go:embed pages
var pageFiles embed.FS

// templates are the pages by name, each within the layout.
var templates = func() map[string]*template.Template {
	entries, err := pageFiles.ReadDir("pages")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	all := map[string]*template.Template{}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		all[name] = template.Must(template.New("layout.html").Funcs(words).ParseFS(pageFiles, "pages/layout.html", path.Join("pages", e.Name())))
	}
	return all
}()

// words are what pages say things with.
var words = template.FuncMap{
	"date": func(i events.Instant) string { return i.Time().Format("2006-01-02") },
	"when": func(i events.Instant) template.HTML {
		text := i.String() // digits and letters alone
		return template.HTML(`<time datetime="` + text + `">` + i.Time().Format("2006-01-02 15:04") + ` UTC</time>`)
	},
	"seconds": func(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 1, 64) + " s" },
	"add":     func(a, b int) int { return a + b },
	"static":  staticURL,
	"words":   func(s string) string { return strings.ReplaceAll(s, "_", " ") },
}

// visit is one request of the browser's.
type visit struct {
	console *console
	w       http.ResponseWriter
	r       *http.Request
	admin   registry.Admin
	project string
	trouble string // with what was sent, to be mended on the page
}

// done is what a page can say that it was led to after a change.
var done = map[string]string{
	"saved": "Saved.", "disabled": "The key is disabled.", "enabled": "The key is enabled.", "registered": "The deployment is registered.",
	"removed": "The deployment is removed.", "attached": "The key is attached.", "detached": "The key is detached.",
}

// shown is what the layout shows.
type shown struct {
	Title, Page, Project string
	Admin                *registry.Admin
	CanEdit, CanOwn      bool
	Trouble, Done        string
	DoneSeq              string
	CommandID            string // for the page's forms: sent twice, they have one effect
	Data                 any
}

func (v *visit) allowed(role registry.Role) error {
	if v.project != "" && !v.admin.Covers(v.project) {
		return &registry.Refusal{Code: registry.Forbidden, Message: fmt.Sprintf("your admin key's scope is %q: it does not cover project %q", v.admin.Scope, v.project)}
	}
	if role != "" && !v.admin.Has(role) {
		return &registry.Refusal{Code: registry.Forbidden, Message: fmt.Sprintf("this takes the role %s; your admin key's is %s", role, v.admin.Role)}
	}
	return nil
}

func (v *visit) render(status int, page, title string, data any) {
	id := events.NewID()
	s := shown{
		Title: title, Page: page, Project: v.project, Trouble: v.trouble, Done: done[v.r.URL.Query().Get("done")],
		CanEdit: v.admin.Has(registry.Editor), CanOwn: v.admin.Has(registry.Owner), CommandID: events.KeyID(id).String(), Data: data,
	}
	if v.admin.Role != "" {
		s.Admin = &v.admin
		if s.Project == "" && v.admin.Scope != registry.EveryProject {
			s.Project = v.admin.Scope
		}
	}
	if seq, err := strconv.ParseUint(v.r.URL.Query().Get("seq"), 10, 64); err == nil {
		s.DoneSeq = strconv.FormatUint(seq, 10)
	}
	var b bytes.Buffer
	if err := templates[page].Execute(&b, &s); err != nil {
		v.console.log.ErrorContext(v.r.Context(), "a page is broken", "page", page, "error", err)
		http.Error(v.w, "this page is broken", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes()) // no connection, nobody to tell
}

func (v *visit) wantsJSON() bool { return v.r.Header.Get("Accept") == "application/json" }

func (v *visit) writeJSON(status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic("an answer does not marshal: " + err.Error())
	}
	v.w.Header().Set("Content-Type", "application/json")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(text)
}

func (v *visit) leadTo(to string) error {
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// of is the address of something in the visit's project.
func (v *visit) of(parts ...string) string {
	to := "/projects/" + url.PathEscape(v.project)
	for _, part := range parts {
		to += "/" + url.PathEscape(part)
	}
	return to
}

func after(what string, seq events.Seq) string {
	return "?done=" + what + "&seq=" + strconv.FormatUint(uint64(seq), 10)
}

func (v *visit) name() string { return v.r.PathValue("name") }

func (v *visit) command(verb registry.Verb, r registry.Request) registry.Command {
	c := registry.Command{Project: v.project, Actor: v.admin.Actor(), Verb: verb, Request: r}
	if !verb.IsQuery() {
		c.Request.CommandID = v.r.PostFormValue("command_id")
	}
	return c
}

// ask gives the reply of its type to a query, or to a command.
func ask[R any](v *visit, verb registry.Verb, r registry.Request) (*R, error) {
	var reply any
	var err error
	if verb.IsQuery() {
		reply, _, err = v.console.service.Look(v.r.Context(), v.command(verb, r))
	} else {
		reply, err = v.console.service.Do(v.r.Context(), v.command(verb, r))
	}
	if err != nil {
		return nil, err
	}
	is, ok := reply.(*R)
	if !ok {
		return nil, fmt.Errorf("%s was answered with %T", verb, reply)
	}
	return is, nil
}

// text is a form's field, nil if the form has none such.
func (v *visit) text(field string) *string {
	text := v.r.PostFormValue(field) // reads the form
	if !v.r.PostForm.Has(field) {
		return nil
	}
	text = strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n")
	return &text
}

// expiry is what the choice between a date and never comes to.
func (v *visit) expiry() *string {
	choice := v.text("expiry")
	if choice == nil || *choice == "never" {
		return choice
	}
	return v.text("expires_on")
}

// local is the date of an instant that falls on midnight, for a form that knows dates alone.
func local(i *events.Instant) string {
	if i == nil {
		return ""
	}
	return i.Time().Format(time.DateOnly)
}
