package gateway

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// route names the deployment that a request is for, and the escaped path that is its own.
func (g *gateway) route(r *http.Request) (name, path string) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	path = r.URL.EscapedPath()
	if host != "" {
		if d := g.verifier.DeploymentAt(g.Project, host); d != nil {
			return d.Name, path
		}
	}
	name, path, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return name, "/" + path
}

// climbs reports whether an escaped path could lead out of the upstream's own.
func climbs(path string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for segment := range strings.FieldsFuncSeq(plain, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
