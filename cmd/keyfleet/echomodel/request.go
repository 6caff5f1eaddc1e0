package echomodel

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// maxBody is more than anybody types; the echo is no longer than what it was told.
const maxBody = 1 << 20

// prompt is what a request comes to.
type prompt struct {
	Text        string // to say back
	Told        int    // tokens in the whole request
	Most        int    // tokens that the answer may have; 0 for any number
	Stream      bool
	StreamUsage bool
}

// options are what both kinds of requests have in common.
type options struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	MaxTokens           int `json:"max_tokens"`
	MaxCompletionTokens int `json:"max_completion_tokens"`
}

func (o *options) apply(p *prompt) {
	p.Stream, p.StreamUsage = o.Stream, o.StreamOptions.IncludeUsage
	p.Most = max(o.MaxTokens, o.MaxCompletionTokens)
}

var (
	errNoMessages = errors.New("messages must be a list with at least one message of role user")
	errNoPrompt   = errors.New("prompt must be a text or a list with one text")
)

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into); err != nil {
		return errors.New("we could not parse the JSON body of your request: " + err.Error())
	}
	return nil
}

func readChat(w http.ResponseWriter, r *http.Request) (prompt, error) {
	var p prompt
	var body struct {
		options
		Messages []struct {
			Role    string  `json:"role"`
			Content content `json:"content"`
		} `json:"messages"`
	}
	if err := decode(w, r, &body); err != nil {
		return p, err
	}
	body.apply(&p)
	said := false
	for _, m := range body.Messages {
		p.Told += len(tokens(string(m.Content)))
		if m.Role == "user" {
			p.Text, said = string(m.Content), true
		}
	}
	if !said {
		return p, errNoMessages
	}
	return p, nil
}

func readCompletion(w http.ResponseWriter, r *http.Request) (prompt, error) {
	var p prompt
	var body struct {
		options
		Prompt content `json:"prompt"`
	}
	if err := decode(w, r, &body); err != nil {
		return p, err
	}
	body.apply(&p)
	if p.Text = string(body.Prompt); p.Text == "" {
		return p, errNoPrompt
	}
	p.Told = len(tokens(p.Text))
	return p, nil
}

// content is a text, or a list of texts or of parts of which those of type text count.
type content string

// UnmarshalJSON reads any of these forms.
func (c *content) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*c = content(text)
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return errors.New("content is a text or a list")
	}
	var texts []string
	for _, item := range items {
		var part struct {
			Text string `json:"text"`
		}
		if json.Unmarshal(item, &text) == nil {
			texts = append(texts, text)
		} else if json.Unmarshal(item, &part) == nil && part.Text != "" {
			texts = append(texts, part.Text)
		}
	}
	*c = content(strings.Join(texts, " "))
	return nil
}

// tokens are words with the space before them: near enough for a model without a vocabulary, and
// together the text again.
func tokens(text string) []string {
	var out []string
	for text != "" {
		begin := len(text) - len(strings.TrimLeft(text, " \t\n"))
		end := strings.IndexAny(text[begin:], " \t\n")
		if end < 0 {
			return append(out, text)
		}
		out = append(out, text[:begin+end])
		text = text[begin+end:]
	}
	return out
}
