package sealing

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
)

var (
	oldKey = strings.Repeat("0a", 32)
	newKey = strings.Repeat("0b", 32)
)

func ring(t *testing.T, keys ...string) *Ring {
	t.Helper()
	parsed, err := ParseKeys([]byte("# newest first\n\n" + strings.Join(keys, "\n")))
	require.NoError(t, err)
	return NewRing(parsed)
}

// sealed is an event of the project with its data key, as the log has them.
func sealed(t *testing.T, r *Ring, project, name string) (opened, created events.Event) {
	t.Helper()
	brought := r.NewDataKey(project)
	require.NoError(t, r.Learn(project, brought))
	plain := events.Admin{Actor: "alice", Name: &name}.Plain()
	opened = events.Event{Project: project, Fact: brought, Admin: plain}
	created = events.Event{Project: project, Subject: [16]byte{1}, Rev: 1, Fact: &events.Disabled{}, Admin: plain}
	require.NoError(t, r.Seal(&opened, brought.DataKey))
	require.NoError(t, r.Seal(&created, brought.DataKey))
	require.NotContains(t, string(created.Admin.Data)+string(opened.Admin.Data), name)
	return opened, created
}

func TestWhoHasTheSealingKeyReadsWhatTheLogHolds(t *testing.T) {
	opened, created := sealed(t, ring(t, oldKey), "acme", "secret-project-x")
	for name, later := range map[string]*Ring{"the same key": ring(t, oldKey), "a newer one before it": ring(t, newKey, oldKey)} {
		_, err := later.Open(&created)
		require.ErrorIs(t, err, events.ErrSealed, "its data key was not seen yet")
		for _, e := range []*events.Event{&opened, &created} {
			admin, err := later.Open(e)
			require.NoError(t, err, name)
			require.Equal(t, "secret-project-x", *admin.Name)
		}
	}
	require.True(t, ring(t, newKey, oldKey).Unwraps(opened.Fact.(*events.ProjectOpened).WrappedBy))
	require.False(t, ring(t, newKey, oldKey).Wraps(opened.Fact.(*events.ProjectOpened).WrappedBy))
}

func TestWhoHasItNotDoesNot(t *testing.T) {
	opened, created := sealed(t, ring(t, oldKey), "acme", "secret-project-x")
	for name, without := range map[string]*Ring{"none": nil, "no keys": NewRing(nil), "another": ring(t, newKey)} {
		for _, e := range []*events.Event{&opened, &created} {
			_, err := without.Open(e)
			require.ErrorIs(t, err, events.ErrSealed, name)
		}
		require.False(t, without.Unwraps(opened.Fact.(*events.ProjectOpened).WrappedBy))
	}
	plain := events.Event{Fact: &events.Disabled{}, Admin: events.Admin{Actor: "bob"}.Plain()}
	admin, err := (*Ring)(nil).Open(&plain)
	require.NoError(t, err)
	require.Equal(t, "bob", admin.Actor)
	require.ErrorIs(t, ring(t, oldKey).Seal(&plain, "dk_of_nobody"), events.ErrSealed)
}

func TestDataKeysThatWereTamperedWith(t *testing.T) {
	r := ring(t, oldKey)
	good := r.NewDataKey("acme")
	for name, change := range map[string]func(f *events.ProjectOpened) (project string){
		"moved to another project": func(*events.ProjectOpened) string { return "zeta" },
		"under another id":         func(f *events.ProjectOpened) string { f.DataKey = "dk_x"; return "acme" },
		"cut":                      func(f *events.ProjectOpened) string { f.Wrapped = f.Wrapped[:5]; return "acme" },
		"flipped":                  func(f *events.ProjectOpened) string { f.Wrapped[20] ^= 1; return "acme" },
	} {
		f := *good
		f.Wrapped = bytes.Clone(good.Wrapped)
		require.ErrorIs(t, r.Learn(change(&f), &f), events.ErrMalformed, name)
	}
	require.NoError(t, r.Learn("acme", good))
}

func TestParseKeys(t *testing.T) {
	for _, wrong := range []string{"", "# nothing", "abc", oldKey[:62], oldKey + "00", "z" + oldKey[1:], oldKey + "\nrubbish"} {
		_, err := ParseKeys([]byte(wrong))
		require.Equal(t, ErrKeys, err, "it says nothing of what the file holds")
	}
	keys, err := ParseKeys([]byte(newKey + "\n# " + strings.Repeat("x", 1<<17) + "\r\n\n" + oldKey))
	require.NoError(t, err)
	require.Len(t, keys, 2, "also behind a long line")
}
