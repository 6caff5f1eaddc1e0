package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/keyfleet/keyfleet/cmd/keyfleet/echomodel"
)

// next is what dev prints once it is ready. The README shows the same three commands.
var next = template.Must(template.New("").Parse(`
Keyfleet is ready. Create a key, show it to a model, revoke it:
{{if .Export}}
  {{.Export}}{{end}}
  KEY=$({{.Binary}} keys create my-first-key --deployment {{.Model}})
  curl -sS {{.File.Gateway}}/{{.Model}}/v1/chat/completions -H "x-api-key: $KEY" -d '{"messages":[{"role":"user","content":"Hello, edge!"}]}'
  {{.Binary}} keys delete my-first-key --wait confirmed

The second command once more is then answered 401. The console is at {{.File.HTTP}}: sign in with
the admin_key of {{.Path}}. All addresses are in there; Ctrl-C stops.
`))

func welcome(out io.Writer, data string, file devFile) error {
	export := ""
	if filepath.Clean(data) != filepath.Clean(defaultData) {
		absolute, err := filepath.Abs(data)
		if err != nil {
			return err
		}
		export = "export " + environmentName("data") + "=" + quoted(absolute)
	}
	return next.Execute(out, map[string]any{
		"Export": export, "Binary": binaryName(), "Model": echomodel.Model, "File": file, "Path": devFilePath(data),
	})
}

// binaryName is how this binary was called.
func binaryName() string { return quoted(os.Args[0]) }

// quoted is a text as a shell reads it.
func quoted(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("/._-+:@%,=", r) && !isAlphanumeric(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func isAlphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}
