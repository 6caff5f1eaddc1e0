package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"
)

// The ways to send a key that providers' documentation shows work with the SDKs that it names, through the gateway to the
// demo model.

const sentence = "The API key is missing or not valid. Send a valid key in the x-api-key header, or as a bearer token."

func TestOpenAIForGo(t *testing.T) {
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	key, _ := dev.newKey(t, "good", "echo-model")
	base := option.WithBaseURL(dev.Gateway + "/echo-model/v1")
	ask := openai.ChatCompletionNewParams{
		Model:    "echo-model",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello, edge!")},
	}
	for name, opts := range map[string][]option.RequestOption{
		"a header beside a dummy": {option.WithAPIKey("dummy"), option.WithHeader("x-api-Key", key)},
		"another header instead":  {option.WithAPIKey("dummy"), option.WithHeaderDel("Authorization"), option.WithHeader("X-API-Key", key)},
		"a bearer token":          {option.WithAPIKey(key)},
	} {
		t.Run(name, func(t *testing.T) {
			client := openai.NewClient(append(opts, base)...)
			whole, err := client.Chat.Completions.New(t.Context(), ask)
			require.NoError(t, err)
			require.Equal(t, "Hello, edge!", whole.Choices[0].Message.Content)
			stream := client.Chat.Completions.NewStreaming(t.Context(), ask)
			var streamed strings.Builder
			for stream.Next() {
				for _, choice := range stream.Current().Choices {
					streamed.WriteString(choice.Delta.Content)
				}
			}
			require.NoError(t, stream.Err())
			require.Equal(t, "Hello, edge!", streamed.String())
		})
	}
	client := openai.NewClient(base, option.WithAPIKey("dummy"))
	_, err := client.Chat.Completions.New(t.Context(), ask)
	var refusal *openai.Error
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, http.StatusUnauthorized, refusal.StatusCode)
	require.Equal(t, "invalid_api_key", refusal.Code)
	require.Equal(t, sentence, refusal.Message)
}

func TestOpenAIForNode(t *testing.T) {
	dir, err := installed(t, "openai-node")
	if err != nil {
		t.Skipf("the SDK is not here: %v", err)
	}
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	key, _ := dev.newKey(t, "good", "echo-model")
	chat := exec.Command("node", "chat.mjs", dev.Gateway+"/echo-model/v1", key)
	chat.Dir = dir
	said, err := chat.CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Equal(t, `a header beside a dummy: Hello, edge! Hello, edge!
another header instead: Hello, edge! Hello, edge!
a bearer token: Hello, edge! Hello, edge!
refused: AuthenticationError 401 invalid_api_key 401 `+sentence+"\n", string(said))
}

// installed is a copy of a folder of testdata with the packages of npm that it locks, which need the network once.
func installed(t *testing.T, folder string) (dir string, err error) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", err
		}
	}
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", folder))))
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	if said, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm cannot install it: %w\n%s", err, said)
	}
	return dir, nil
}

func TestCurlAsDocumentationShowsIt(t *testing.T) {
	requireProgram(t, "curl")
	dev := startDev(t, filepath.Join(t.TempDir(), "data"))
	key, _ := dev.newKey(t, "good", "echo-model")
	said, err := exec.Command("curl", "-sS", "--location", dev.Gateway+"/echo-model/v1/chat/completions",
		"--header", "x-api-key: "+key, "--header", "Content-Type: application/json",
		"--data", `{"model": "echo-model", "messages": [{"role": "user", "content": "Hello, edge!"}], "stream": true}`).CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Contains(t, string(said), `"content":"Hello,"`)
	require.True(t, strings.HasSuffix(string(said), "data: [DONE]\n\n"), "%s", said)
}
