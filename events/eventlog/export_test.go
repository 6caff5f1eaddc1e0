package eventlog

import "time"

// SetPatience makes tests short: how long a request may go unanswered, and how long a replicated stream may seem
// rolled back.
func (l *Log) SetPatience(attempt, rollback time.Duration) { l.attempt, l.patience = attempt, rollback }

// StreamConfig gives the tests what Init provisions, to spoil it.
var StreamConfig = streamConfig
