package proof

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyfleet/keyfleet/events"
)

// ErrNotProven says that the hashes of a proof do not lead to the root that was signed.
var ErrNotProven = errors.New("the hashes do not lead to the root that was signed")

// Inclusion proves to somebody who knows the log's key, and nothing else of the log, that an event stands at a Seq.
type Inclusion struct {
	Seq        events.Seq
	Leaf       []byte // the event's bytes as they stand in the log
	Hashes     []Root
	Checkpoint []byte // signed, of a log that reaches Seq
}

// Growth proves that the log of a checkpoint grew out of an older one that somebody has kept: nothing up to there was
// changed or taken away.
type Growth struct {
	Old        events.Seq // of the older checkpoint
	Hashes     []Root
	Checkpoint []byte // signed, the newer
}

const (
	inclusionHeader = "c2sp.org/tlog-proof@v1"
	maxProof        = 2 << 20 // the largest event in base64, and all the rest
)

// MarshalText gives a C2SP tlog-proof. Its extra data is the event itself.
func (p *Inclusion) MarshalText() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", inclusionHeader, base64.StdEncoding.EncodeToString(p.Leaf), p.Seq-1)
	writeHashes(&b, p.Hashes)
	b.Write(p.Checkpoint)
	return b.Bytes(), nil
}

// OpenInclusion reads a proof, and holds it against a root that one of the keys has signed. Errors wrap
// events.ErrMalformed, ErrNotSigned or ErrNotProven.
func OpenInclusion(text []byte, keys ...events.PublicKey) (Inclusion, Checkpoint, error) {
	var p Inclusion
	head, rest, err := splitProof(text)
	if err != nil {
		return p, Checkpoint{}, err
	}
	p.Checkpoint = rest
	c, _, err := OpenCheckpoint(rest, keys...)
	if err != nil {
		return p, Checkpoint{}, err
	}
	if len(head) < 3 || head[0] != inclusionHeader {
		return p, c, fmt.Errorf("%w: it is no proof that an event is in a log", events.ErrMalformed)
	}
	index, indexErr := numberBehind("index ", head[2])
	extra, isExtra := strings.CutPrefix(head[1], "extra ")
	var leafErr error
	p.Leaf, leafErr = base64.StdEncoding.DecodeString(extra)
	p.Seq = events.Seq(index) + 1
	var hashErr error
	p.Hashes, hashErr = readHashes(head[3:])
	if err := errors.Join(indexErr, leafErr, hashErr); err != nil || !isExtra {
		return p, c, fmt.Errorf("%w: it is no proof that an event is in a log", events.ErrMalformed)
	}
	if tlog.CheckRecord(tlogHashes(p.Hashes), int64(c.Seq), tlog.Hash(c.Root), int64(index), tlog.Hash(leafHash(p.Leaf))) != nil {
		return p, c, fmt.Errorf("the event at Seq %d: %w", p.Seq, ErrNotProven)
	}
	return p, c, nil
}

// MarshalText gives the form in which C2SP tlog-witness has proofs of consistency.
func (p *Growth) MarshalText() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", p.Old)
	writeHashes(&b, p.Hashes)
	b.Write(p.Checkpoint)
	return b.Bytes(), nil
}

// OpenGrowth reads a proof, and holds it against the older checkpoint and a newer one that one of the keys has signed, which
// it returns. Errors wrap events.ErrMalformed, ErrNotSigned, ErrNotProven or events.ErrIncarnation.
func OpenGrowth(text []byte, old Checkpoint, keys ...events.PublicKey) (Checkpoint, error) {
	head, rest, err := splitProof(text)
	if err != nil {
		return Checkpoint{}, err
	}
	c, _, err := OpenCheckpoint(rest, keys...)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Incarnation != old.Incarnation {
		return Checkpoint{}, fmt.Errorf("%w: had %s, found %s", events.ErrIncarnation, old.Incarnation, c.Incarnation)
	}
	from, err := numberBehind("old ", head[0])
	hashes, hashErr := readHashes(head[1:])
	if err = errors.Join(err, hashErr); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: it is no proof that a log grew out of another", events.ErrMalformed)
	}
	if events.Seq(from) != old.Seq {
		return Checkpoint{}, fmt.Errorf("%w: it begins at Seq %d, the checkpoint at hand is of Seq %d", ErrNotProven, from, old.Seq)
	}
	if tlog.CheckTree(tlogHashes(hashes), int64(c.Seq), tlog.Hash(c.Root), int64(old.Seq), tlog.Hash(old.Root)) != nil {
		return Checkpoint{}, fmt.Errorf("from Seq %d to %d: %w", old.Seq, c.Seq, ErrNotProven)
	}
	return c, nil
}

// splitProof parts the lines of a proof from the checkpoint behind them.
func splitProof(text []byte) (lines []string, checkpoint []byte, err error) {
	head, rest, found := bytes.Cut(text[:min(len(text), maxProof)], []byte("\n\n"))
	if !found || len(text) > maxProof {
		return nil, nil, fmt.Errorf("%w: it is no proof", events.ErrMalformed)
	}
	return strings.Split(string(head), "\n"), rest, nil
}

func numberBehind(word, line string) (uint64, error) {
	digits, found := strings.CutPrefix(line, word)
	n, err := strconv.ParseUint(digits, 10, 62)
	if err == nil && (!found || strconv.FormatUint(n, 10) != digits) {
		err = events.ErrMalformed
	}
	return n, err
}

func writeHashes(b *bytes.Buffer, hashes []Root) {
	for _, h := range hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

func readHashes(lines []string) ([]Root, error) {
	if len(lines) > 2*64 { // no tree is deeper
		return nil, events.ErrMalformed
	}
	hashes := make([]Root, len(lines))
	for i, line := range lines {
		b, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(b) != len(Root{}) {
			return nil, events.ErrMalformed
		}
		copy(hashes[i][:], b)
	}
	return hashes, nil
}
