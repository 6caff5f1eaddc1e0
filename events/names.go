package events

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits that commands are held to. Decoders do not apply them: a fact is never refused.
const (
	MaxDeploymentsPerKey = 1000
	MaxDescriptionRunes  = 300
	MaxCommandIDBytes    = 128
	MaxHintBytes         = 64
	MaxUpstreamBytes     = 2048
)

// CheckKeyName returns an error that says what a key's name must look like, or nil.
func CheckKeyName(s string) error {
	if len(s) < 4 || len(s) > 63 || !isDotted(s) {
		return errors.New("a key's name has 4 to 63 of a-z, 0-9, '-' and '.', " +
			"each part between dots beginning and ending with a letter or digit")
	}
	return nil
}

// CheckDeploymentName returns an error that says what a deployment's name must look like, or nil.
func CheckDeploymentName(s string) error {
	if len(s) < 4 || len(s) > 30 || !isLabel(s) {
		return errors.New("a deployment's name has 4 to 30 of a-z, 0-9 and '-', " +
			"beginning and ending with a letter or digit")
	}
	return nil
}

// CheckProject returns an error that says what a project's name must look like, or nil. The names
// that begin with '_' are the system's own; SystemProject tells them.
func CheckProject(s string) error { return checkScope("project", s) }

// CheckActor is CheckProject for actors.
func CheckActor(s string) error { return checkScope("actor", s) }

func checkScope(what, s string) error {
	own := strings.TrimPrefix(s, "_")
	if own == "" || !isLetterOrDigit(own[0]) || !isOf(own, "-_") || len(s) > 63 {
		return fmt.Errorf("a %s's name has 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit", what)
	}
	return nil
}

// isDotted reports whether s is labels with dots between them, as a DNS name is.
func isDotted(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isLabel reports whether s is of a-z, 0-9 and '-', beginning and ending with a letter or digit.
func isLabel(s string) bool {
	return s != "" && isLetterOrDigit(s[0]) && isLetterOrDigit(s[len(s)-1]) && isOf(s, "-")
}

// isOf reports whether s has nothing but a-z, 0-9 and others.
func isOf(s, others string) bool {
	for i := range len(s) {
		if !isLetterOrDigit(s[i]) && strings.IndexByte(others, s[i]) < 0 {
			return false
		}
	}
	return true
}

func isLetterOrDigit(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// SystemName reports whether a project or actor is the system's own: its name begins with '_'.
func SystemName(s string) bool { return strings.HasPrefix(s, "_") }

// CheckDescription allows up to 300 characters of text, line breaks and tabs included, and refuses what could drive a
// terminal or hide text from a reader.
func CheckDescription(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("the description is not valid UTF-8")
	}
	if n := utf8.RuneCountInString(s); n > MaxDescriptionRunes {
		return fmt.Errorf("the description has %d characters; at most %d are allowed", n, MaxDescriptionRunes)
	}
	for _, r := range s {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return fmt.Errorf("the description contains the control character %U; remove it", r)
		}
	}
	return nil
}

// CheckCommandID allows any printable text up to 128 bytes.
func CheckCommandID(s string) error {
	return checkPrintable("command id", s, MaxCommandIDBytes)
}

// CheckHint allows any printable text up to 64 bytes.
func CheckHint(s string) error { return checkPrintable("hint", s, MaxHintBytes) }

func checkPrintable(what, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("the %s has %d bytes; at most %d are allowed", what, len(s), most)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("the %s is not valid UTF-8", what)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("the %s contains %U, which is not printable; remove it", what, r)
		}
	}
	return nil
}

// CheckUpstream allows the empty text (no upstream) and absolute http and https URLs without
// credentials, query or fragment.
func CheckUpstream(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > MaxUpstreamBytes,
		u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("an upstream is an absolute http:// or https:// URL of at most 2048 bytes")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("an upstream carries no user, query or fragment: leave those out of the URL")
	}
	return nil
}

// CheckHost allows the empty text (no host) and a DNS name in lower case, without a port.
func CheckHost(s string) error {
	if s != "" && (len(s) > 253 || !isDotted(s)) {
		return errors.New("a host is a DNS name in lower case, without a port, such as llama.example.org")
	}
	return nil
}
