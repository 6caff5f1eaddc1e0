package httpapi_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the answers of the dialogues anew")

// TestDialogues has what is sent above what is answered. A line
//
//	> editor POST /cloud/v3/inference/acme/api_keys [Header: value | …] {"name":"demo-key"}
//
// is a call by the admin named first ("-" is nobody). Ids, secrets and request ids are numbered as they appear.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.rest")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			script, err := os.ReadFile(file)
			require.NoError(t, err)
			got := play(t, leadingHub(t), string(script))
			if *rewrite {
				script = got
				require.NoError(t, os.WriteFile(file, got, 0o600))
			}
			require.Equal(t, string(script), string(got))
		})
	}
}

var sending = regexp.MustCompile(`^> (\S+) (\S+) (\S+)(?: \[([^\]]+)\])?(?: (.*))?$`)

func play(t *testing.T, h *hub, script string) []byte {
	var out bytes.Buffer
	known := naming{}
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			fmt.Fprintln(&out, line)
			continue
		}
		parts := sending.FindStringSubmatch(line)
		if parts == nil {
			continue // an answer of the run before
		}
		fmt.Fprintln(&out, line)
		admin, headers := strings.TrimPrefix(parts[1], "-"), []string(nil)
		if parts[4] != "" {
			headers = strings.Split(parts[4], " | ")
		}
		body := strings.ReplaceAll(parts[5], `\n`, "\n")
		a := h.send(t, admin, parts[2], known.meant(parts[3]), known.meant(body), headers...)
		fmt.Fprintln(&out, known.told(a.summary()))
	}
	return out.Bytes()
}

// summary is the status, the headers that mean something, and the body.
func (a answer) summary() string {
	text := fmt.Sprint("= ", a.status)
	for _, name := range []string{
		"Keyfleet-Seq", "Keyfleet-Confirmation", "Keyfleet-Standby", "ETag", "Allow", "Retry-After", "WWW-Authenticate", "X-Should-Retry",
	} {
		if value := a.header.Get(name); value != "" {
			text += fmt.Sprintf(" %s:%s", strings.TrimPrefix(name, "Keyfleet-"), value)
		}
	}
	if a.status >= 300 {
		a.body = requestID.ReplaceAllString(a.body, "")
	}
	for line := range strings.Lines(a.body) {
		text += "\n  " + strings.TrimSpace(line)
	}
	return text
}

var (
	requestID = regexp.MustCompile(`,"request_id":"req_[0-9a-f]{32}"`)
	chancy    = regexp.MustCompile(`(key|dep)_[0-9a-z]{26}|kf_[0-9A-Za-z]{49}|kf_[0-9A-Za-z]{4}…[0-9A-Za-z]{4}`)
	named     = regexp.MustCompile(`\b[KDSH][0-9]+\b`)
)

// naming gives names to what differs from run to run.
type naming map[string]string

func (n naming) told(text string) string {
	return chancy.ReplaceAllStringFunc(text, func(s string) string {
		letter := map[string]string{"key_": "K", "dep_": "D"}[s[:4]]
		switch {
		case letter != "":
		case strings.Contains(s, "…"):
			return "HINT"
		default:
			letter = "S"
		}
		for name, known := range n {
			if known == s {
				return name
			}
		}
		name := fmt.Sprint(letter, len(n)+1)
		n[name] = s
		return name
	})
}

func (n naming) meant(text string) string {
	return named.ReplaceAllStringFunc(text, func(name string) string {
		if known := n[name]; known != "" {
			return known
		}
		return name
	})
}
