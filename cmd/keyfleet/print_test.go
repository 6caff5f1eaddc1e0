package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTablesDoNotDriveTerminals(t *testing.T) {
	cases := map[string]string{
		"plain, ünïcode and 漢字 stay": "plain, ünïcode and 漢字 stay",
		"\x1b[2Jgone":                `\u{1b}[2Jgone`,
		"two\nrows\tand columns":     `two\nrows\tand columns`,
		"\u202eright to left":        `\u{202e}right to left`,
		"\xff":                       `\u{fffd}`,
		"bell\a":                     `bell\u{7}`,
	}
	for text, want := range cases {
		got := clean(text)
		if text == "\xff" {
			require.NotContains(t, got, "\xff")
			continue
		}
		require.Equal(t, want, got)
	}
	var out strings.Builder
	shown := table{head: []string{"NAME", "TEXT"}}
	shown.add("a", "\x1b]0;title\a")
	require.NoError(t, shown.write(&out))
	require.NotContains(t, out.String(), "\x1b")
	require.Equal(t, 2, strings.Count(out.String(), "\n"))
}

func TestUserNamesBecomeActors(t *testing.T) {
	for user, want := range map[string]string{
		"alice": "alice", "Alice Doe": "alice-doe", "_svc": "svc", "": "nobody", "...": "nobody",
		"DOMAIN\\bob": "domain-bob", strings.Repeat("x", 99): strings.Repeat("x", 63),
	} {
		t.Setenv("USER", user)
		t.Setenv("USERNAME", "")
		require.Equal(t, want, userName())
	}
}

func TestShellsReadWhatWelcomeQuotes(t *testing.T) {
	require.Equal(t, "/tmp/data", quoted("/tmp/data"))
	require.Equal(t, "'/tmp/my data'", quoted("/tmp/my data"))
	require.Equal(t, `'it'\''s'`, quoted("it's"))
}
