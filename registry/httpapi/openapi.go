package httpapi

import (
	"crypto/sha256"
	_ "embed"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/keyfleet/keyfleet/events"
)

// object is a JSON object in the making.
type object map[string]any

// document is the OpenAPI 3.1 document of the table of routes.
var document = sync.OnceValue(func() object {
	s := schemas{}
	paths := object{}
	for i := range routes {
		r := &routes[i]
		if r.page != nil {
			continue
		}
		at, _ := paths[r.path].(object)
		if at == nil {
			at = object{}
			paths[r.path] = at
		}
		at[strings.ToLower(r.method)] = r.describe(s)
	}
	s.of(reflect.TypeFor[errorBody]())
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "Keyfleet", "version": "1", "description": "API keys, the deployments that they open, " +
			"and how far each change has come. Compatible with Gcore's public inference API."},
		"security": []object{{"admin_key": []string{}}},
		"paths":    paths,
		"components": object{"schemas": s, "securitySchemes": object{"admin_key": object{
			"type": "apiKey", "in": "header", "name": "Authorization", "description": "`APIKey kf_…` or `Bearer kf_…`, with an admin key."}}},
	}
})

var inPath = regexp.MustCompile(`\{(\w+)\}`)

// paramMeanings are what parameters of paths, queries and headers mean.
var paramMeanings = map[string]string{
	"project": "the project: a number, or any name", "name": "name or id", "seq": "a Seq, from the header Keyfleet-Seq of a change",
	"limit": "1 to 1000, default 100", "offset": "how many results to pass over",
	"order_by": "name, and for keys created_at or expires_at; with a - before it the other way round", "search": "a part of a name, description or hint, or the beginning of an id",
	"wait": "recorded (default) or confirmed: answer once no verifier accepts what was revoked", "wait_timeout": "how long to wait, such as 30s",
	idempotencyHeader: "makes repeating safe: one effect for each", "If-Match": "the ETag of what was read: refuse if it has changed since",
}

func parameter(in, name string) object {
	return object{"in": in, "name": name, "required": in == "path", "description": paramMeanings[name], "schema": object{"type": "string"}}
}

func (r *route) describe(s schemas) object {
	var params []object
	for _, found := range inPath.FindAllStringSubmatch(r.path, -1) {
		params = append(params, parameter("path", found[1]))
	}
	for _, name := range r.params {
		params = append(params, parameter("query", name))
	}
	if r.method != http.MethodGet && len(r.params) > 0 {
		params = append(params, parameter("header", idempotencyHeader), parameter("header", "If-Match"))
	}
	status, success := "200", object{"description": "done"}
	if r.status == http.StatusNoContent {
		status = "204"
	} else {
		success["content"] = object{r.mediaType(): object{"schema": s.of(reflect.TypeOf(r.reply).Elem())}}
	}
	op := object{
		"summary": r.summary, "description": "Takes the role " + string(r.role) + ".", "parameters": params,
		"responses": object{
			status:    success,
			"default": object{"description": "refused", "content": object{"application/json": object{"schema": s.of(reflect.TypeFor[errorBody]())}}},
		},
	}
	if r.body != nil {
		op["requestBody"] = object{"content": object{r.mediaType(): object{"schema": s.of(r.body)}}}
	}
	return op
}

func (r *route) mediaType() string {
	if r.body == reflect.TypeFor[importLine]() {
		return ndjson
	}
	return "application/json"
}

// schemas are those of the types that routes take and give, by name.
type schemas object

// nullable is a member that may be null, told by its type.
type nullable interface{ inner() reflect.Type }

func (f field[T]) inner() reflect.Type { return reflect.TypeFor[T]() }

func (s schemas) of(t reflect.Type) object {
	if f, ok := reflect.Zero(t).Interface().(nullable); ok {
		return orNull(s.of(f.inner()))
	}
	if t == reflect.TypeFor[events.Instant]() {
		return object{"type": "string", "format": "date-time"}
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return orNull(s.of(t.Elem()))
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Struct:
		return s.ofStruct(t)
	default:
		return object{"type": "integer"}
	}
}

func orNull(of object) object { return object{"anyOf": []object{of, {"type": "null"}}} }

func (s schemas) ofStruct(t reflect.Type) object {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	ref := object{"$ref": "#/components/schemas/" + name}
	if s[name] != nil {
		return ref
	}
	members := object{}
	s[name] = object{"type": "object", "properties": members} // before its members, which may be of the same type
	s.addMembers(members, t)
	return ref
}

func (s schemas) addMembers(members object, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Pointer:
			s.addMembers(members, f.Type.Elem())
		case f.Anonymous:
			s.addMembers(members, f.Type)
		case name != "" && name != "-":
			members[name] = s.of(f.Type)
		}
	}
}

func serveDocument(w http.ResponseWriter) { writeJSON(w, http.StatusOK, document()) }

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var page = template.Must(template.New("page").Parse(pageText))

// pagePolicy allows nothing but the page's own style.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; frame-ancestors 'none'"
}()

// pageLine is one route on the page.
type pageLine struct {
	Method, Path, Summary, Role string
	Params                      []string
	Body                        string
}

// servePage writes the document for people, without a script.
func servePage(w http.ResponseWriter) {
	s := schemas{}
	var lines []pageLine
	for i := range routes {
		r := &routes[i]
		if r.page != nil {
			continue
		}
		line := pageLine{Method: r.method, Path: r.path, Summary: r.summary, Role: string(r.role), Params: r.params}
		if r.body != nil {
			members := object{}
			s.addMembers(members, r.body)
			text, err := json.MarshalIndent(members, "", "  ")
			if err == nil {
				line.Body = string(text)
			}
		}
		lines = append(lines, line)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_ = page.Execute(w, map[string]any{"Style": template.CSS(pageStyle), "Lines": lines}) // no connection, nobody to tell
}
