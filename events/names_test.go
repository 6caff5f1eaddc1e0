package events

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	cases := []struct {
		what  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{"key", CheckKeyName, []string{"demo", "a.b-c.d1", long(63), "0000"},
			[]string{"", "abc", long(64), "Demo", "de mo", "-demo", "demo-", "a..b", ".abc", "abc.", "a.-b.c", "key_abc", "démo", "demo\n"}},
		{"deployment", CheckDeploymentName, []string{"echo-model", long(30), "4444"},
			[]string{"", "abc", long(31), "a.bcd", "-abc", "abc-", "ABCD", "ab/cd"}},
		{"project", CheckProject, []string{"a", "demo", "a_b-c", "_admin", "17", long(63)},
			[]string{"", "-a", "__a", "_", "A", "a.b", "a b", "a*", "a>", long(64)}},
		{"description", CheckDescription, []string{"", "two\nlines\tand a tab", strings.Repeat("é", 300)},
			[]string{strings.Repeat("é", 301), "\x1b[31m", "\x00", "a\u202eb", "\xff"}},
		{"command id", CheckCommandID, []string{"", "01JZ", "with space", long(128)}, []string{long(129), "a\nb", "\x7f", "\xff"}},
		{"upstream", CheckUpstream, []string{"", "http://127.0.0.1:8000", "https://models.example.org/v1"},
			[]string{"llama", "ftp://x", "http://", "http://u:p@x", "http://x/?a=b", "http://x/#f", "http://" + long(2048), "://"}},
		{"host", CheckHost, []string{"", "llama.example.org", "localhost"}, []string{"Llama.org", "a_b.org", "x:80", ".org", long(254)}},
	}
	for _, c := range cases {
		for _, s := range c.good {
			assert.NoError(t, c.check(s), "%s %q", c.what, s)
		}
		for _, s := range c.bad {
			assert.Error(t, c.check(s), "%s %q", c.what, s)
		}
	}
}

// The same names said in another way, for whatever else there is.
func TestNamesAreThoseOfTheirExpressions(t *testing.T) {
	const label = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	dotted := `^` + label + `(\.` + label + `)*$`
	random := rand.New(rand.NewPCG(1, 2))
	for what, c := range map[string]struct {
		check       func(string) error
		expression  string
		least, most int
	}{
		"key":        {CheckKeyName, dotted, 4, 63},
		"deployment": {CheckDeploymentName, `^` + label + `$`, 4, 30},
		"project":    {CheckProject, `^_?[a-z0-9][-_a-z0-9]*$`, 1, 63},
		"host":       {CheckHost, dotted, 1, 253},
	} {
		expression, good := regexp.MustCompile(c.expression), 0
		for range 20_000 {
			const often, seldom = "aabbzz0099", "--..__AZ/:`{@[\n\x00é "
			s := make([]byte, 1+random.IntN(8))
			for i := range s {
				if random.IntN(4) > 0 {
					s[i] = often[random.IntN(len(often))]
				} else {
					s[i] = seldom[random.IntN(len(seldom))]
				}
			}
			want := expression.Match(s) && len(s) >= c.least && len(s) <= c.most
			require.Equal(t, want, c.check(string(s)) == nil, "%s %q", what, s)
			if want {
				good++
			}
		}
		require.Greater(t, good, 1000, what)
	}
}

func TestInstants(t *testing.T) {
	for text, want := range map[string]string{
		"2027-01-31":                  "2027-01-31T00:00:00Z",
		"2027-01-31T01:00:00+01:00":   "2027-01-31T00:00:00Z",
		"2027-01-31T00:00:00.123999Z": "2027-01-31T00:00:00.123Z",
		"1969-12-31T23:59:59.9999Z":   "1969-12-31T23:59:59.999Z",
		"9999-12-31":                  "9999-12-31T00:00:00Z",
		"never":                       "never",
	} {
		i, err := ParseInstant(text)
		require.NoError(t, err)
		assert.Equal(t, want, i.String())
	}
	for _, text := range []string{"", "Never", "tomorrow", "2027-1-31", "2027-02-30", "31.01.2027", "2027-01-31 00:00", "0000-01-01T00:00:00+05:00"} {
		_, err := ParseInstant(text)
		require.ErrorIs(t, err, ErrInstant, text)
	}
	assert.True(t, Instant(0).Time().Equal(time.Unix(0, 0)), "an expiry that was never set is long past")
}

func TestIDs(t *testing.T) {
	var id KeyID = NewID()
	same, err := ParseKeyID(id.String())
	require.NoError(t, err)
	assert.Equal(t, id, same)
	text := id.String()
	for _, bad := range []string{"", "key_", strings.ToUpper(text), text + "0", text[:29] + "u", text[:29] + "1", "dep_" + text[4:]} {
		if bad != text {
			_, err := ParseKeyID(bad)
			assert.Error(t, err, bad)
		}
	}
}

func TestNext(t *testing.T) {
	commit := func(p Position, change func(*Commit)) Entry {
		c := &Commit{Schema: 1, Incarnation: p.Incarnation, Term: p.Term, First: p.Seq + 1, Parent: p.Chain, Time: p.Time}
		require.NoError(t, c.Add(samples()[10], samples()[11]))
		change(c)
		return Entry{Commit: c, Chain: ChainHash{1}, StreamSeq: 7}
	}
	at := Position{Incarnation: Incarnation{1}, Seq: 10, Chain: ChainHash{9}, Term: 3, Time: 1000}
	next, err := at.Next(commit(at, func(*Commit) {}))
	require.NoError(t, err)
	assert.Equal(t, Position{Incarnation: Incarnation{1}, Seq: 12, Chain: ChainHash{1}, Term: 3, Time: 1000, StreamSeq: 7}, next)
	for what, c := range map[string]struct {
		change func(*Commit)
		want   error
	}{
		"a gap":               {func(c *Commit) { c.First++ }, ErrGap},
		"an event twice":      {func(c *Commit) { c.First-- }, ErrFork},
		"another parent":      {func(c *Commit) { c.Parent[0]++ }, ErrFork},
		"another incarnation": {func(c *Commit) { c.Incarnation[0]++ }, ErrIncarnation},
		"an older term":       {func(c *Commit) { c.Term-- }, ErrFork},
		"an unopened term":    {func(c *Commit) { c.Term++ }, ErrFork},
		"an older time":       {func(c *Commit) { c.Time-- }, ErrFork},
	} {
		stays, err := at.Next(commit(at, c.change))
		require.ErrorIs(t, err, c.want, what)
		assert.Equal(t, at, stays)
	}
}
