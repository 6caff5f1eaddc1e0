package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

const (
	version      = 1
	lengthSize   = 2
	maxRequest   = 8 << 10 // without its length
	answerSize   = 30      // without its length
	fixedRequest = 1 + 16 + 8
	staleFlag    = 1
)

// Answer is what a client learns. The zero Answer denies.
type Answer struct {
	Outcome   projections.Class
	Key       events.KeyID // of a key that is allowed
	Seq       events.Seq   // the state that it was decided from is at least as new
	Staleness time.Duration
	Stale     bool // the verifier's lease is over, and its operator chose to serve on
}

// Allowed reports whether the request may pass.
func (a Answer) Allowed() bool { return a.Outcome == projections.Pass }

var errMalformed = errors.New("this is no frame of version 1")

// appendRequest adds a frame; one that would be too long is refused.
func appendRequest(frame []byte, r *verifier.Request) ([]byte, error) {
	length := fixedRequest + 1 + len(r.Project) + 1 + len(r.Deployment) + len(r.Key)
	if len(r.Project) > math.MaxUint8 || len(r.Deployment) > math.MaxUint8 || length > maxRequest {
		return frame, fmt.Errorf("a check of %d bytes does not fit into a frame", length)
	}
	frame = binary.BigEndian.AppendUint16(frame, uint16(length)) // bounded above
	frame = append(frame, version)
	frame = append(frame, r.Incarnation[:]...)
	frame = binary.BigEndian.AppendUint64(frame, uint64(r.MinSeq))
	frame = append(append(frame, byte(len(r.Project))), r.Project...)
	frame = append(append(frame, byte(len(r.Deployment))), r.Deployment...)
	return append(frame, r.Key...), nil
}

// parseRequest reads what follows a length. The key is part of payload.
func parseRequest(payload []byte, names *names) (r verifier.Request, err error) {
	if len(payload) < fixedRequest || payload[0] != version {
		return r, errMalformed
	}
	r.Incarnation = events.Incarnation(payload[1:17])
	r.MinSeq = events.Seq(binary.BigEndian.Uint64(payload[17:]))
	project, rest, ok := cutText(payload[fixedRequest:])
	deployment, key, alsoOK := cutText(rest)
	if !ok || !alsoOK {
		return r, errMalformed
	}
	r.Project, r.Deployment, r.Key = names.project.of(project), names.deployment.of(deployment), key
	return r, nil
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || len(b) <= int(b[0]) {
		return nil, nil, false
	}
	end := 1 + int(b[0])
	return b[1:end], b[end:], true
}

// names are those of the request before: most requests of a connection name the same.
type names struct{ project, deployment lastText }

type lastText string

func (l *lastText) of(b []byte) string {
	if string(*l) != string(b) {
		*l = lastText(b)
	}
	return string(*l)
}

func appendAnswer(frame []byte, a *verifier.Answer) []byte {
	var flags byte
	var key events.KeyID
	if a.Stale {
		flags = staleFlag
	}
	class := a.Reason.Class()
	if class == projections.Pass {
		key = a.Key
	}
	frame = binary.BigEndian.AppendUint16(frame, answerSize)
	frame = append(frame, byte(class), flags)
	frame = append(frame, key[:]...)
	frame = binary.BigEndian.AppendUint64(frame, uint64(a.Seq))
	staleness := min(max(a.Staleness.Milliseconds(), 0), math.MaxUint32)
	return binary.BigEndian.AppendUint32(frame, uint32(staleness))
}

func parseAnswer(frame *[lengthSize + answerSize]byte) (a Answer, err error) {
	if binary.BigEndian.Uint16(frame[:]) != answerSize || frame[2] > byte(projections.Forbidden) {
		return a, errMalformed
	}
	return Answer{
		Outcome: projections.Class(frame[2]), Stale: frame[3]&staleFlag != 0, Key: events.KeyID(frame[4:20]),
		Seq: events.Seq(binary.BigEndian.Uint64(frame[20:])), Staleness: time.Duration(binary.BigEndian.Uint32(frame[28:])) * time.Millisecond,
	}, nil
}
