package verifier

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyfleet/keyfleet/events"
)

// Event is something that happened to a verifier, one of the types below. Logs and metrics are two of its
// listeners.
type Event interface{ level() slog.Level }

// CaughtUp: checks are answered, from a state known to be fresh.
type CaughtUp struct {
	Was State
	Seq events.Seq
}

// ApplyStalled: what follows in the log cannot be read or applied for now.
type ApplyStalled struct{ Err error }

// LeaseLapsed: nothing newer than the lease shows that the state is fresh.
type LeaseLapsed struct{ Seq events.Seq }

// IndexQuarantined: the log or the index contradicts itself. Only a restart, or another log, helps.
type IndexQuarantined struct{ Err error }

// RenewalFailed: no lease came of an attempt. The next is under way soon.
type RenewalFailed struct {
	Err    error
	InARow int
}

// BegunAnew: the registry does not know the instance any more, or knows it twice. It is another one from here on, and
// answers nothing until that one is granted something.
type BegunAnew struct{ Was events.InstanceID }

// IndexScrubbed: the whole index was read, and is what the log made of it.
type IndexScrubbed struct{ Took time.Duration }

// IndexRebuilding: the index proved wrong, and is begun anew from the log.
type IndexRebuilding struct{ Why error }

// SnapshotFetching: a snapshot is on its way, in bytes.
type SnapshotFetching struct{ Done, Total int64 }

// SnapshotInstalled: the index goes on from a snapshot.
type SnapshotInstalled struct {
	Seq   events.Seq
	Bytes int64
	Took  time.Duration
}

// SnapshotFailed: there is a snapshot, or may be one, that could not be used. The log is read instead.
type SnapshotFailed struct{ Err error }

// ReportFailed: what was counted of keys' uses could not be handed on. It is kept, and tried again.
type ReportFailed struct {
	Err    error
	InARow int
}

// CheckBroken: the index could not be read.
type CheckBroken struct{ Err error }

func (CaughtUp) level() slog.Level          { return slog.LevelInfo }
func (ApplyStalled) level() slog.Level      { return slog.LevelWarn }
func (LeaseLapsed) level() slog.Level       { return slog.LevelError }
func (IndexQuarantined) level() slog.Level  { return slog.LevelError }
func (CheckBroken) level() slog.Level       { return slog.LevelError }
func (BegunAnew) level() slog.Level         { return slog.LevelWarn }
func (IndexScrubbed) level() slog.Level     { return slog.LevelDebug }
func (IndexRebuilding) level() slog.Level   { return slog.LevelWarn }
func (SnapshotFetching) level() slog.Level  { return slog.LevelInfo }
func (SnapshotInstalled) level() slog.Level { return slog.LevelInfo }
func (SnapshotFailed) level() slog.Level    { return slog.LevelWarn }

// level is that of a warning once a minute at the usual pace, so that an outage does not fill the log.
func (e RenewalFailed) level() slog.Level {
	if e.InARow%60 == 1 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// level is that of a warning twice an hour at the usual pace.
func (e ReportFailed) level() slog.Level {
	if e.InARow%60 == 1 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// logTo is the listener that writes a log.
func logTo(log *slog.Logger) func(Event) {
	return func(e Event) {
		say := func(text string, args ...any) { log.Log(context.Background(), e.level(), text, args...) }
		switch e := e.(type) {
		case CaughtUp:
			say("verifier caught up: checks are answered", "seq", e.Seq, "was", e.Was)
		case ApplyStalled:
			say("verifier cannot follow the log for now", "error", e.Err)
		case LeaseLapsed:
			say("verifier's lease has lapsed", "seq", e.Seq)
		case IndexQuarantined:
			say("verifier quarantined: checks are refused until a restart", "error", e.Err)
		case RenewalFailed:
			say("verifier's lease was not renewed", "error", e.Err, "in_a_row", e.InARow)
		case BegunAnew:
			say("verifier begins anew as another instance", "was", e.Was)
		case IndexScrubbed:
			say("verifier's index was read whole, and is right", "took", e.Took)
		case IndexRebuilding:
			say("verifier begins a new index", "why", e.Why)
		case SnapshotFetching:
			say("fetching a snapshot", "done_bytes", e.Done, "total_bytes", e.Total)
		case SnapshotInstalled:
			say("snapshot installed: the log is followed from there", "seq", e.Seq, "bytes", e.Bytes, "took", e.Took)
		case SnapshotFailed:
			say("no snapshot could be used: the log is followed instead", "error", e.Err)
		case ReportFailed:
			say("verifier's counts of uses could not be handed on", "error", e.Err, "in_a_row", e.InARow)
		case CheckBroken:
			say("a check could not be answered", "error", e.Err)
		}
	}
}
