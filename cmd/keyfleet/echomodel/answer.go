package echomodel

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// form is how one kind of answer looks, whole and in pieces.
type form interface {
	idPrefix() string
	object(streamed bool) string
	choice(text string, streamed, first bool, finish *string) any
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// answer is a whole answer, or one piece of a stream.
type answer struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Model   string `json:"model"`
	Choices []any  `json:"choices"`
	Usage   *usage `json:"usage,omitempty"`
}

// serve reads a request and says it back.
func serve(read func(http.ResponseWriter, *http.Request) (prompt, error), f form) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := read(w, r)
		if err != nil {
			complain(w, http.StatusBadRequest, "invalid_request", err.Error())
			return
		}
		said, finish := tokens(p.Text), "stop"
		if p.Most > 0 && len(said) > p.Most {
			said, finish = said[:p.Most], "length"
		}
		a := answer{ID: f.idPrefix() + rand.Text(), Created: time.Now().Unix(), Model: Model}
		u := usage{p.Told, len(said), p.Told + len(said)}
		if p.Stream {
			a.Object = f.object(true)
			stream(w, f, a, said, finish, p.StreamUsage, u)
			return
		}
		a.Object, a.Usage = f.object(false), &u
		a.Choices = []any{f.choice(strings.Join(said, ""), false, true, &finish)}
		send(w, http.StatusOK, a)
	}
}

// stream sends a piece per token, as server-sent events.
func stream(w http.ResponseWriter, f form, a answer, said []string, finish string, withUsage bool, u usage) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	out := http.NewResponseController(w)
	push := func(choices ...any) bool {
		a.Choices = append([]any{}, choices...) // a list also when empty
		data, err := json.Marshal(a)
		if err != nil {
			return false
		}
		_, err = fmt.Fprintf(w, "data: %s\n\n", data)
		return err == nil && out.Flush() == nil
	}
	for i, token := range said {
		if !push(f.choice(token, true, i == 0, nil)) {
			return // nobody listens any more
		}
	}
	if !push(f.choice("", true, len(said) == 0, &finish)) {
		return
	}
	if withUsage {
		a.Usage = &u
		push()
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// chat is the form of /v1/chat/completions.
type chat struct{}

type message struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
}

func (chat) idPrefix() string { return "chatcmpl-" }

func (chat) object(streamed bool) string {
	if streamed {
		return "chat.completion.chunk"
	}
	return "chat.completion"
}

func (chat) choice(text string, streamed, first bool, finish *string) any {
	m := message{Content: text}
	if first {
		m.Role = "assistant"
	}
	if !streamed {
		return struct {
			Index        int     `json:"index"`
			Message      message `json:"message"`
			FinishReason *string `json:"finish_reason"`
		}{0, m, finish}
	}
	return struct {
		Index        int     `json:"index"`
		Delta        message `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	}{0, m, finish}
}

// completion is the form of /v1/completions, which looks the same whole and in pieces.
type completion struct{}

func (completion) idPrefix() string   { return "cmpl-" }
func (completion) object(bool) string { return "text_completion" }

func (completion) choice(text string, _, _ bool, finish *string) any {
	return struct {
		Index        int     `json:"index"`
		Text         string  `json:"text"`
		FinishReason *string `json:"finish_reason"`
	}{0, text, finish}
}
