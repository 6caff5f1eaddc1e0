package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/registry"
)

// importLine is a key whose secret was made elsewhere.
type importLine struct {
	keyBody
	Digest string `json:"digest"`
	Hint   string `json:"hint"`
}

// importReport is what became of one line. The last one of a report is the sum instead.
type importReport struct {
	Line     int            `json:"line,omitempty"`
	Name     string         `json:"name,omitempty"`
	ID       string         `json:"id,omitempty"`
	Seq      events.Seq     `json:"seq,omitempty"`
	Replayed bool           `json:"replayed,omitempty"`
	Error    *registry.Code `json:"error,omitempty"`
	Message  string         `json:"message,omitempty"`
	Field    string         `json:"field,omitempty"`

	Sum *importSum `json:"sum,omitempty"`
}

type importSum struct {
	Lines    int        `json:"lines"` // blank ones left out
	Imported int        `json:"imported"`
	Refused  int        `json:"refused"`
	Seq      events.Seq `json:"seq"`             // of the last key imported
	Ended    string     `json:"ended,omitempty"` // why not all lines were read
}

// The bounds of an import: so many lines are under way at once, which shares commits among them.
const (
	importWindow  = 1024
	maxImportLine = 64 << 10
)

const ndjson = "application/x-ndjson"

// importKeys reads line by line and answers once the last is decided: a client that reads only after it has sent all
// would else wait for us as we wait for it. The report is kept in a file meanwhile, so that memory is bounded whatever
// the number of lines.
func importKeys(c *call) (any, error) {
	if err := c.checkQuery(); err != nil {
		return nil, err
	}
	spool, err := os.CreateTemp("", "keyfleet-import-*")
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = spool.Close(), os.Remove(spool.Name()) }()
	sum, err := c.importInto(spool)
	if err != nil {
		return nil, err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	c.note(sum.Seq)
	c.w.Header().Set("Content-Type", ndjson)
	c.w.WriteHeader(http.StatusOK)
	_, _ = io.Copy(unhurried{c}, spool) // no connection, nobody to tell
	return nil, nil
}

// unhurried gives the caller time anew with each piece that it sends or takes: an import has no greatest length.
type unhurried struct{ *call }

func (u unhurried) Read(b []byte) (int, error) {
	waitFor(u.w, patience, 0)
	return u.r.Body.Read(b)
}

func (u unhurried) Write(b []byte) (int, error) {
	waitFor(u.w, 0, patience)
	return u.w.Write(b)
}

// importInto writes the report of every line in their order, and the sum.
func (c *call) importInto(spool io.Writer) (*importSum, error) {
	ctx, stop := context.WithCancel(c.r.Context())
	defer stop()
	under := make(chan chan importReport, importWindow)
	sum := &importSum{}
	var readers sync.WaitGroup
	var readErr error
	readers.Go(func() {
		defer close(under)
		readErr = c.readLines(ctx, under)
	})
	out := bufio.NewWriter(spool)
	encode := json.NewEncoder(out)
	var err error
	for each := range under {
		if report := <-each; err == nil {
			sum.add(&report)
			if err = encode.Encode(&report); err != nil {
				stop()
			}
		}
	}
	readers.Wait()
	if readErr != nil {
		sum.Ended = readErr.Error()
	}
	if err == nil {
		err = encode.Encode(&importReport{Sum: sum})
	}
	return sum, errors.Join(err, out.Flush())
}

func (s *importSum) add(r *importReport) {
	s.Lines++
	if r.Error != nil {
		s.Refused++
		return
	}
	s.Imported++
	s.Seq = max(s.Seq, r.Seq)
}

// readLines has each line decided, many at once, and gives their outcomes in order.
func (c *call) readLines(ctx context.Context, under chan<- chan importReport) error {
	lines := bufio.NewScanner(unhurried{c})
	lines.Buffer(nil, maxImportLine)
	for n := 1; lines.Scan(); n++ {
		text := bytes.Clone(bytes.TrimSpace(lines.Bytes()))
		if len(text) == 0 {
			continue
		}
		each := make(chan importReport, 1)
		select {
		case under <- each:
			go func() { each <- c.importOne(ctx, n, text) }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	waitFor(c.w, 0, 0)
	return lines.Err()
}

func (c *call) importOne(ctx context.Context, n int, text []byte) importReport {
	report := importReport{Line: n}
	reply, err := c.importLine(ctx, n, text, &report)
	if err != nil {
		p := problemOf(err)
		code := registry.Invalid // which alone is told apart before the registry is asked
		var refusal *registry.Refusal
		if errors.As(err, &refusal) {
			code = refusal.Code
		} else if p.internal != nil {
			code = registry.Unavailable
		}
		report.Error, report.Message, report.Field = &code, p.message, p.field
		return report
	}
	report.ID, report.Seq, report.Replayed = reply.ID, reply.Seq, reply.Replayed
	return report
}

// importLine has a command id of its own if the import has one, so that an import that broke off is simply sent again.
func (c *call) importLine(ctx context.Context, n int, text []byte, report *importReport) (*registry.KeyReply, error) {
	var line importLine
	if err := decode(text, &line); err != nil {
		return nil, err
	}
	report.Name = line.Name.value
	if line.Digest == "" {
		return nil, invalid("digest", "an import needs each key's digest: nobody would ever see a secret that is made here")
	}
	r, err := line.request()
	if err != nil {
		return nil, err
	}
	r.Digest, r.Hint = line.Digest, line.Hint
	if id := c.r.Header.Get(idempotencyHeader); id != "" {
		r.CommandID = id + ":" + strconv.Itoa(n)
	}
	reply, err := c.service.Do(ctx, c.addressed(registry.KeyCreate, r))
	if err != nil {
		return nil, err
	}
	k, ok := reply.(*registry.KeyReply)
	if !ok {
		return nil, errors.New("a key's reply is none")
	}
	return k, nil
}
