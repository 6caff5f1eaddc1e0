package eventlog

import (
	"errors"
	"fmt"

	"github.com/keyfleet/keyfleet/events"
)

// Why a log cannot be used as asked.
var (
	// ErrNoLog: the server has no such stream, or nothing in it yet.
	ErrNoLog = errors.New("there is no log")
	// ErrAlreadyOpen: Init has nothing to do.
	ErrAlreadyOpen = errors.New("the log is already open: init is needed only once in its life")
	// ErrUnsafe: the stream or a server is not set up so that the log's promises hold.
	ErrUnsafe = errors.New("the log would not be safe")
	// ErrReadOnly: Append on a log that was opened for reading.
	ErrReadOnly = errors.New("the log was opened for reading only")
	// ErrNoCommit: the stream holds no message there. A mirror, or a server that is catching up, may have it later.
	ErrNoCommit = errors.New("no commit stands there")
	// ErrRollback: the log ends before a commit that was read from it earlier. Final, like every fork.
	ErrRollback = fmt.Errorf("rollback: the log ends before what was read from it (%w)", events.ErrFork)
)
