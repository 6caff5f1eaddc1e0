// Package echomodel is a stand-in for an inference server: it speaks OpenAI's API and answers with
// what it was told, so that a newcomer sees a model answer without having one.
//
// It promises answers of the shape that OpenAI's SDKs read, streams and errors included. It checks no
// keys, which is what the gateway before it is for, and it leaves thinking to others.
package echomodel

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Model is the name of the only model, which is also that of its deployment.
const Model = "echo-model"

// New serves the API under any path that ends as OpenAI's do, below prefix.
func New(prefix string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+prefix+"/v1/models", listModels)
	mux.HandleFunc("GET "+prefix+"/v1/models/{model}", showModel)
	mux.HandleFunc("POST "+prefix+"/v1/chat/completions", serve(readChat, chat{}))
	mux.HandleFunc("POST "+prefix+"/v1/completions", serve(readCompletion, completion{}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		complain(w, http.StatusNotFound, "unknown_url", fmt.Sprintf(
			"Unknown request URL: %s %s. The echo model serves /v1/models, /v1/chat/completions and /v1/completions.",
			r.Method, strings.TrimPrefix(r.URL.Path, prefix)))
	})
	return mux
}

type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// itself is the model as lists show it. Its age is that of the idea.
var itself = model{ID: Model, Object: "model", Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), OwnedBy: "keyfleet"}

func listModels(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", []model{itself}})
}

func showModel(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("model") != Model {
		complain(w, http.StatusNotFound, "model_not_found", fmt.Sprintf("The model %q does not exist; there is only %s.", r.PathValue("model"), Model))
		return
	}
	send(w, http.StatusOK, itself)
}

// complain answers with an error of OpenAI's shape.
func complain(w http.ResponseWriter, status int, code, message string) {
	var body struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    string  `json:"code"`
		} `json:"error"`
	}
	body.Error.Message, body.Error.Type, body.Error.Code = message, "invalid_request_error", code
	send(w, status, body)
}

func send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller is gone, which is no fault of ours
}
