package echomodel_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/cmd/keyfleet/echomodel"
)

func ask(t *testing.T, method, path, body string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	echomodel.New("/echo").ServeHTTP(w, httptest.NewRequest(method, "/echo"+path, strings.NewReader(body)))
	answer, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return w.Code, w.Header(), string(answer)
}

type completion struct {
	ID, Object, Model string
	Created           int64
	Choices           []struct {
		Message, Delta struct{ Role, Content string }
		Text           string
		FinishReason   *string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
}

func read(t *testing.T, body string) (c completion) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(body), &c))
	return c
}

func TestChatSaysTheLastUserMessageBack(t *testing.T) {
	status, header, body := ask(t, "POST", "/v1/chat/completions", `{"model":"echo-model","messages":[
		{"role":"system","content":"be brief"},{"role":"user","content":"one"},{"role":"assistant","content":"one"},
		{"role":"user","content":[{"type":"text","text":"Hello, edge!"},{"type":"image_url","image_url":{"url":"x"}}]}]}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "application/json", header.Get("Content-Type"))
	c := read(t, body)
	require.Equal(t, "chat.completion", c.Object)
	require.Equal(t, "assistant", c.Choices[0].Message.Role)
	require.Equal(t, "Hello, edge!", c.Choices[0].Message.Content)
	require.Equal(t, "stop", *c.Choices[0].FinishReason)
	require.Equal(t, 6, c.Usage.Prompt)
	require.Equal(t, 2, c.Usage.Completion)
	require.Equal(t, 8, c.Usage.Total)
}

func TestMaxTokensCutsTheEcho(t *testing.T) {
	_, _, body := ask(t, "POST", "/v1/chat/completions", `{"max_tokens":2,"messages":[{"role":"user","content":"a b c d"}]}`)
	c := read(t, body)
	require.Equal(t, "a b", c.Choices[0].Message.Content)
	require.Equal(t, "length", *c.Choices[0].FinishReason)
}

func TestStreamEndsWithDone(t *testing.T) {
	_, header, body := ask(t, "POST", "/v1/chat/completions",
		`{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hello,  edge\n!"}]}`)
	require.Equal(t, "text/event-stream", header.Get("Content-Type"))
	var pieces []completion
	var text strings.Builder
	lines := bufio.NewScanner(strings.NewReader(body))
	last := ""
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			require.Empty(t, lines.Text())
			continue
		}
		if last = data; data == "[DONE]" {
			continue
		}
		c := read(t, data)
		require.Equal(t, "chat.completion.chunk", c.Object)
		for _, choice := range c.Choices {
			text.WriteString(choice.Delta.Content)
		}
		pieces = append(pieces, c)
	}
	require.Equal(t, "[DONE]", last)
	require.Equal(t, "Hello,  edge\n!", text.String(), "tokens are the text again")
	require.Equal(t, "assistant", pieces[0].Choices[0].Delta.Role)
	require.Empty(t, pieces[1].Choices[0].Delta.Role)
	usage := pieces[len(pieces)-1]
	require.Empty(t, usage.Choices)
	require.Equal(t, 3, usage.Usage.Completion)
	require.Equal(t, "stop", *pieces[len(pieces)-2].Choices[0].FinishReason)
}

func TestCompletions(t *testing.T) {
	for _, prompt := range []string{`"say this"`, `["say this"]`} {
		_, _, body := ask(t, "POST", "/v1/completions", `{"prompt":`+prompt+`}`)
		c := read(t, body)
		require.Equal(t, "text_completion", c.Object)
		require.Equal(t, "say this", c.Choices[0].Text)
	}
}

func TestModels(t *testing.T) {
	status, _, body := ask(t, "GET", "/v1/models", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"id":"echo-model"`)
	status, _, _ = ask(t, "GET", "/v1/models/echo-model", "")
	require.Equal(t, http.StatusOK, status)
}

func TestErrorsHaveTheShapeOfOpenAI(t *testing.T) {
	cases := []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/chat/completions", `{`, http.StatusBadRequest},
		{"POST", "/v1/chat/completions", `{"messages":[]}`, http.StatusBadRequest},
		{"POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":7}]}`, http.StatusBadRequest},
		{"POST", "/v1/completions", `{}`, http.StatusBadRequest},
		{"GET", "/v1/models/gpt-9", ``, http.StatusNotFound},
		{"GET", "/v1/images", ``, http.StatusNotFound},
	}
	for _, c := range cases {
		status, header, body := ask(t, c.method, c.path, c.body)
		require.Equal(t, c.status, status, c.path)
		require.Equal(t, "application/json", header.Get("Content-Type"))
		var e struct {
			Error struct{ Message, Type, Code string }
		}
		require.NoError(t, json.Unmarshal([]byte(body), &e))
		require.NotEmpty(t, e.Error.Message)
		require.Equal(t, "invalid_request_error", e.Error.Type)
		require.NotEmpty(t, e.Error.Code)
	}
}
