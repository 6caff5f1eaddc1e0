package gateway

import "net/http"

// Keys travel in headers that pages set themselves, never in cookies, so that pages of any origin may send
// them.

func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// answerPreflight allows what is asked for: a browser sends a preflight without the key.
func answerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", r.Header.Get("Access-Control-Request-Method"))
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

// openToBrowsers lets the page that asked read the answer, unless the answer says who may.
func openToBrowsers(answer http.Header, r *http.Request) {
	if r.Header.Get("Origin") != "" && answer.Get("Access-Control-Allow-Origin") == "" {
		answer.Set("Access-Control-Allow-Origin", "*")
	}
}
