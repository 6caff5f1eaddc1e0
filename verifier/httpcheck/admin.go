package httpcheck

import (
	"encoding/json"
	"html/template"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyfleet/keyfleet/verifier"
)

// NewAdmin offers /livez, /readyz, /metrics and /debug/, which are for operators: on a listener that
// callers do not reach.
func NewAdmin(v interface{ Status() verifier.Status }, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { writeReadiness(w, v.Status()) })
	mux.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/{$}", func(w http.ResponseWriter, _ *http.Request) { writeDebugPage(w, v.Status()) })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		SetRequestID(w, r)
		Complain(w, http.StatusNotFound, "not_found", "Nothing is here. There are /livez, /readyz, /metrics and /debug/.")
	})
	return mux
}

func writeReadiness(w http.ResponseWriter, s verifier.Status) {
	body, err := json.Marshal(struct {
		verifier.Status
		StalenessMs int64 `json:"staleness_ms"`
		LeaseLeftMs int64 `json:"lease_left_ms"`
	}{s, s.Staleness.Milliseconds(), s.LeaseLeft.Milliseconds()})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	if !s.Ready {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(body, '\n'))
}

// debugPage shows what an operator asks first. Everything in it may be logged.
var debugPage = template.Must(template.New("debug").Parse(`<!doctype html>
<meta charset="utf-8"><title>Keyfleet verifier</title>
<h1>Keyfleet verifier: {{.State}}{{if not .Ready}}, not answering{{end}}</h1>
{{with .Why}}<p>{{.}}</p>{{end}}
<table>
<tr><th align="left">applied Seq<td>{{.Position.Seq}}
<tr><th align="left">newest head known<td>{{.Newest}}
<tr><th align="left">staleness<td>{{.Staleness}}
<tr><th align="left">lease left<td>{{.LeaseLeft}}
<tr><th align="left">instance<td>{{.Instance}}
<tr><th align="left">chain hash<td>{{.Position.Chain}}
<tr><th align="left">incarnation<td>{{.Charter.Incarnation}}
<tr><th align="left">term<td>{{.Charter.Term}} ({{.Charter.Registry}})
<tr><th align="left">schema<td>{{.Charter.Schema}}
<tr><th align="left">last commit<td>{{.Position.Time}}
<tr><th align="left">foreign keys seen<td>{{.Charter.ForeignKeys}}
<tr><th align="left">fleet<td>{{len .Charter.Members}} members
{{range $name, $value := .Charter.Settings}}<tr><th align="left">{{$name}}<td>{{$value}}
{{end}}</table>
<p><a href="/metrics">metrics</a> <a href="/debug/pprof/">profiles</a> <a href="/readyz">readiness</a></p>
`))

func writeDebugPage(w http.ResponseWriter, s verifier.Status) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = debugPage.Execute(w, s) // only a caller that is gone makes it fail
}
