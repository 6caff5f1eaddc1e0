package registry

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections/catalog"
	"github.com/keyfleet/keyfleet/projections/history"
	"github.com/keyfleet/keyfleet/registry/expiry"
)

var rewrite = flag.Bool("rewrite", false, "write the answers of the dialogues anew")

// TestDialogues plays testdata/*.dialogue: what actors say to a registry, and what becomes of it.
//
//	> acme/alice key.create {"name":"demo-key"}   a command
//	= created K1 …                                an event that it led to
//	! name_taken: …                               or its refusal
//	at 2027-01-31T00:00:00Z                       sets the clock
//	due                                           records the ends of lifetimes
//
// Ids are told as K1, D2; digests as their number.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			played := newStage(t).play(string(text))
			if *rewrite {
				text = []byte(played)
				require.NoError(t, os.WriteFile(file, text, 0o600))
			}
			require.Equal(t, string(text), played)
		})
	}
}

// stage is a registry without a log: decisions are folded into a catalog at once.
type stage struct {
	t       *testing.T
	catalog *catalog.Catalog
	at      events.Position
	now     events.Instant
	drawn   byte
	names   map[string]string // text of an id -> what the dialogue calls it
}

func newStage(t *testing.T) *stage {
	c, err := catalog.Open("catalog", catalog.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	s := &stage{t: t, catalog: c, now: 1_798_761_600_000, names: map[string]string{}} // 2027-01-01
	s.fold(events.Event{Fact: &events.LogOpened{Incarnation: events.Incarnation{1}}, Admin: events.Admin{}.Plain()})
	return s
}

func (s *stage) play(script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "=", "!":
			continue
		case ">":
			out.WriteString(line + s.command(rest))
			continue
		case "at":
			now, err := events.ParseInstant(rest)
			require.NoError(s.t, err)
			s.now = now
		case "due":
			out.WriteString(line + s.due())
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}

var alias = regexp.MustCompile(`\b[KD][0-9]+\b`)

func (s *stage) command(line string) string {
	who, line, _ := strings.Cut(line, " ")
	verb, body, _ := strings.Cut(line, " ")
	project, actor, _ := strings.Cut(who, "/")
	body = alias.ReplaceAllStringFunc(body, func(a string) string {
		for id, name := range s.names {
			if name == a {
				return id
			}
		}
		return a
	})
	cmd := Command{Project: project, Actor: actor, Verb: Verb(verb)}
	if body != "" {
		require.NoError(s.t, json.Unmarshal([]byte(body), &cmd.Request), body)
	}
	out, err := s.decide(&cmd)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return fmt.Sprintf("! %s: %s\n", refusal.Code, s.rename(refusal.Message))
	}
	require.NoError(s.t, err)
	if out.Replayed {
		return fmt.Sprintf("= replayed, Seq %d\n", out.Seq)
	}
	if len(out.Events) == 0 {
		return "= nothing\n"
	}
	return s.fold(out.Events...)
}

func (s *stage) decide(cmd *Command) (Outcome, error) {
	if err := cmd.check(); err != nil {
		return Outcome{}, err
	}
	s.drawn++
	chance := Chance{ID: [16]byte{15: s.drawn}, Digest: events.Digest{31: s.drawn}, Hint: "kf_aaaa…zzzz"}
	txn := s.begin()
	return Decide(txn, cmd, chance, s.now)
}

func (s *stage) due() string {
	txn := s.begin()
	es, err := expiry.Due(txn, s.now, 100)
	require.NoError(s.t, err)
	if len(es) == 0 {
		return "= nothing\n"
	}
	return s.fold(es...)
}

func (s *stage) begin() *catalog.Txn {
	return s.catalog.Begin(s.at.Seq+1, s.at.StreamSeq+1, s.now)
}

// fold commits events and tells them.
func (s *stage) fold(es ...events.Event) string {
	c := &events.Commit{Schema: 1, Incarnation: events.Incarnation{1}, First: s.at.Seq + 1, Parent: s.at.Chain, Time: max(s.now, s.at.Time)}
	require.NoError(s.t, c.Add(es...))
	body, err := c.Encode()
	require.NoError(s.t, err)
	decoded, err := events.DecodeCommit(body)
	require.NoError(s.t, err)
	entry := events.Entry{Commit: decoded, Chain: events.HashCommit(body), StreamSeq: s.at.StreamSeq + 1}
	require.NoError(s.t, s.catalog.Apply([]events.Entry{entry}))
	s.at = s.catalog.Position()
	var told strings.Builder
	for i := range decoded.Events() {
		fmt.Fprintf(&told, "= %s\n", s.tell(&decoded.Events()[i], c.First+events.Seq(i)))
	}
	return told.String()
}

func (s *stage) tell(e *events.Event, seq events.Seq) string {
	n, err := history.Describe(e, seq, s.now, nil)
	require.NoError(s.t, err)
	switch e.Fact.(type) {
	case *events.Created:
		s.names[n.Subject] = fmt.Sprintf("K%d", e.Subject[15])
	case *events.DeploymentRegistered:
		s.names[n.Subject] = fmt.Sprintf("D%d", e.Subject[15])
	}
	if n.Digest != "" {
		n.Digest = "…" + n.Digest[60:]
	}
	head := fmt.Sprintf("%d %s %s", n.Seq, n.Type, n.Subject)
	n.Seq, n.Time, n.Type, n.Subject, n.Project = 0, 0, "", "", ""
	rest, err := json.Marshal(n)
	require.NoError(s.t, err)
	text := strings.NewReplacer(`"seq":0,"time":"1970-01-01T00:00:00Z","type":"",`, "").Replace(string(rest))
	return s.rename(head + " " + text)
}

func (s *stage) rename(text string) string {
	for id, name := range s.names {
		text = strings.ReplaceAll(text, id, name)
	}
	return text
}
