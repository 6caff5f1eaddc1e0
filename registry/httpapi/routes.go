package httpapi

import (
	"net/http"
	"reflect"

	"github.com/keyfleet/keyfleet/registry"
)

// route is one call that REST offers.
type route struct {
	method, path string
	summary      string
	role         registry.Role // that it takes
	status       int           // of success; 0 stands for 200
	params       []string      // in the query
	reply        any           // an example of what it answers with, for its type
	handling
	page func(http.ResponseWriter) // instead of all that: it is for everybody
}

// handling is what a route does, and what body it takes.
type handling struct {
	body reflect.Type
	do   func(*call) (any, error)
}

// taking makes the handling of a route that takes a body.
func taking[B any](then func(*call, *B) (any, error)) handling {
	return handling{reflect.TypeFor[B](), func(c *call) (any, error) {
		var body B
		if err := c.readBody(&body); err != nil {
			return nil, err
		}
		return then(c, &body)
	}}
}

// asking makes the handling of a route that takes none: what is sent all the same, as SDKs do, means nothing.
func asking(then func(*call) (any, error)) handling {
	return handling{do: func(c *call) (any, error) {
		if _, err := c.wholeBody(); err != nil {
			return nil, err
		}
		return then(c)
	}}
}

const (
	keysPath        = "/cloud/v3/inference/{project}/api_keys"
	keyPath         = keysPath + "/{name}"
	deploymentsPath = "/cloud/v3/inference/{project}/deployments"
	deploymentPath  = deploymentsPath + "/{name}"
)

var (
	paging  = []string{"limit", "offset", "order_by", "search"}
	waiting = []string{"wait", "wait_timeout"}
)

// routes is all that is offered. It is made in init, for the document that it serves is made of it.
var routes []route

func init() {
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	key, deployment := &registry.KeyReply{}, &registry.DeploymentReply{}
	routes = []route{
		{method: get, path: keysPath, summary: "List API keys", role: registry.Viewer, params: paging,
			reply: &registry.KeyPage{}, handling: asking(listKeys)},
		{method: post, path: keysPath, summary: "Create an API key", role: registry.Editor, params: waiting,
			reply: key, handling: taking(createKey)},
		{method: get, path: keyPath, summary: "Show an API key", role: registry.Viewer,
			reply: key, handling: asking(getKey)},
		{method: patch, path: keyPath, summary: "Change an API key", role: registry.Editor, params: waiting,
			reply: key, handling: taking(editKey)},
		{method: del, path: keyPath, summary: "Revoke an API key", role: registry.Editor, params: waiting,
			status: http.StatusNoContent, handling: asking(onKey(registry.KeyDelete))},
		{method: post, path: keyPath + "/rotate", summary: "Give an API key a new secret", role: registry.Editor, params: waiting,
			reply: key, handling: taking(rotateKey)},
		{method: post, path: keyPath + "/disable", summary: "Disable an API key", role: registry.Editor, params: waiting,
			reply: key, handling: asking(onKey(registry.KeyDisable))},
		{method: post, path: keyPath + "/enable", summary: "Enable an API key", role: registry.Editor, params: waiting,
			reply: key, handling: asking(onKey(registry.KeyEnable))},
		{method: get, path: keyPath + "/events", summary: "What happened to an API key, the newest first", role: registry.Viewer,
			params: []string{"limit", "offset"}, reply: &registry.HistoryPage{}, handling: asking(keyEvents)},
		{method: post, path: keysPath + "/identify", summary: "Whose secret has this digest?", role: registry.Viewer,
			reply: key, handling: taking(identifyKey)},
		{method: post, path: keysPath + "/import", summary: "Create keys whose secrets were made elsewhere, one to a line of NDJSON",
			role: registry.Owner, reply: &importReport{}, handling: handling{reflect.TypeFor[importLine](), importKeys}},

		{method: get, path: deploymentsPath, summary: "List deployments", role: registry.Viewer, params: paging,
			reply: &registry.DeploymentPage{}, handling: asking(listDeployments)},
		{method: post, path: deploymentsPath, summary: "Register a deployment", role: registry.Owner, params: waiting,
			reply: deployment, handling: taking(registerDeployment)},
		{method: get, path: deploymentPath, summary: "Show a deployment and its API keys", role: registry.Viewer,
			reply: deployment, handling: asking(getDeployment)},
		{method: patch, path: deploymentPath, summary: "Change a deployment, or which API keys open it", role: registry.Editor, params: waiting,
			reply: deployment, handling: taking(editDeployment)},
		{method: del, path: deploymentPath, summary: "Remove a deployment", role: registry.Owner, params: waiting,
			status: http.StatusNoContent, handling: asking(removeDeployment)},

		{method: get, path: "/v1/fleet", summary: "How the verifiers fare", role: registry.Viewer,
			reply: &registry.FleetView{}, handling: asking(fleetStatus)},
		{method: get, path: "/v1/fleet/confirmations/{seq}", summary: "How far a change has come", role: registry.Viewer,
			params: []string{"wait_timeout"}, reply: &registry.ReceiptReply{}, handling: asking(confirmation)},

		{method: get, path: "/openapi.json", page: serveDocument},
		{method: get, path: "/docs/api", page: servePage},
	}
}
