package eventlog

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyfleet/keyfleet/events"
)

// The names of the log. They are part of the public contract.
const (
	StreamName = "KEYFLEET_LOG"
	Subject    = "keyfleet.log"
)

// room is what a message needs beside the commit's body, for headers.
const room = 8 << 10

// minPayload is the least max_payload of a server that the log is written over, with some to spare for what servers
// put in front of messages on their way.
const minPayload = events.MaxCommitBytes + 16<<10

// streamConfig is what Init provisions.
func streamConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              StreamName,
		Description:       "Keyfleet's log of events: never delete, purge or edit it",
		Subjects:          []string{Subject},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		Replicas:          replicas,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		Duplicates:        100 * time.Millisecond, // the least that servers allow: no message carries an id
		DenyDelete:        true,
		DenyPurge:         true,
		AllowDirect:       false, // direct reads may be older than our own acks
	}
}

// setting is one thing that a stream must be for the log's promises to hold, and what breaks without.
type setting struct {
	ok   bool
	want string
}

// checkHub refuses a stream that does not keep every commit forever, on disk, as written.
func checkHub(c jetstream.StreamConfig) error {
	return unmet(append(keepsOrder(c),
		setting{c.MaxBytes <= 0, "it must have no limit of size"},
		setting{len(c.Subjects) == 1 && c.Subjects[0] == Subject, "subjects must be " + Subject + " alone"},
		setting{c.Storage == jetstream.FileStorage, "storage must be file"},
		setting{c.PersistMode == jetstream.DefaultPersistMode, "persist_mode async acknowledges what is not on disk"},
		setting{c.DenyDelete, "deny_delete must be on"},
		setting{c.DenyPurge, "deny_purge must be on"},
		setting{!c.AllowRollup, "allow_rollup_hdrs must be off: a rollup deletes messages"},
		setting{!c.AllowDirect, "allow_direct must be off: direct reads may miss acknowledged commits"},
		setting{!c.NoAck, "no_ack must be off: appends would never be known durable"},
		setting{!c.Sealed, "it is sealed: nothing can be appended"},
		setting{c.Mirror == nil, "it is a mirror; the log itself was expected (followers of a mirror say so when they open it)"},
		setting{c.FirstSeq <= 1, "first_seq must be 1"},
		setting{c.Metadata[restoring] == "", "a restore into it was not finished: run `keyfleet audit import` again with the same archive"},
	))
}

// checkMirror refuses a copy that would not show the log as it is, be it only the newest part of it.
func checkMirror(c jetstream.StreamConfig) error {
	m := c.Mirror
	if m == nil {
		return unmet([]setting{{false, "a mirror of the log was expected, and this is none"}})
	}
	return unmet(append(keepsOrder(c),
		setting{c.MaxBytes <= 0 || c.Discard == jetstream.DiscardOld, "discard must be old: it refuses what is new"},
		setting{m.Name == StreamName, "it mirrors another stream, " + m.Name},
		setting{m.FilterSubject == "" && len(m.SubjectTransforms) == 0, "it filters or renames what it mirrors"},
		setting{m.OptStartSeq <= 1 && m.OptStartTime == nil, "it does not mirror from the beginning"},
	))
}

// keepsOrder is what a log and its mirrors have in common: no message comes from elsewhere or is another than it was, and none leaves
// from between others.
func keepsOrder(c jetstream.StreamConfig) []setting {
	return []setting{
		{c.Retention == jetstream.LimitsPolicy, "retention must be limits"},
		{c.MaxMsgs <= 0 && c.MaxAge == 0 && c.MaxMsgsPerSubject <= 0, "it must have no limit of age or number"},
		{c.MaxMsgSize <= 0 || c.MaxMsgSize >= events.MaxCommitBytes+room, "max_msg_size is below a commit's"},
		{!c.AllowMsgTTL && c.SubjectDeleteMarkerTTL == 0, "messages must not have a time to live"},
		{!c.AllowMsgCounter && !c.AllowMsgSchedules, "counters and schedules rewrite messages"},
		{len(c.Sources) == 0, "it must have no sources"},
		{c.SubjectTransform == nil, "it must have no subject transform"},
	}
}

func unmet(settings []setting) error {
	var faults []string
	for _, s := range settings {
		if !s.ok {
			faults = append(faults, s.want)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: stream %s is not as `keyfleet init` provisions it: %s; see `nats stream edit`",
		ErrUnsafe, StreamName, strings.Join(faults, "; "))
}
