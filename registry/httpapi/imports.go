package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	importChunk   = 256 // lines
	importChunks  = 4
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
	under := make(chan chan []importReport, importChunks-1) // and the one that is awaited
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
	for chunk := range under {
		for _, report := range <-chunk {
			if err != nil {
				break
			}
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

// numbered is a line of an import.
type numbered struct {
	n    int
	text []byte
}

// readLines has lines decided, many at once, and gives their outcomes in order. It waits for no line to go with another.
func (c *call) readLines(ctx context.Context, under chan<- chan []importReport) error {
	in := bufio.NewReaderSize(unhurried{c}, maxImportLine)
	var err error
	for n := 1; err == nil; {
		var lines []numbered
		for ; err == nil && len(lines) < importChunk && (len(lines) == 0 || hasLine(in)); n++ {
			var text []byte
			switch text, err = in.ReadSlice('\n'); {
			case errors.Is(err, bufio.ErrBufferFull):
				err = fmt.Errorf("line %d has more than %d bytes", n, maxImportLine)
			case err != nil && !errors.Is(err, io.EOF): // who knows where the line would have ended
			default:
				if text = bytes.TrimSpace(text); len(text) > 0 {
					lines = append(lines, numbered{n, bytes.Clone(text)})
				}
			}
		}
		each := make(chan []importReport, 1)
		select {
		case under <- each:
			go func() { each <- c.importLines(ctx, lines) }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	waitFor(c.w, 0, 0)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// hasLine reports whether a line is there to be read.
func hasLine(in *bufio.Reader) bool {
	waiting, _ := in.Peek(in.Buffered()) // what it has
	return bytes.IndexByte(waiting, '\n') >= 0
}

// importLines gives each line's outcome.
func (c *call) importLines(ctx context.Context, lines []numbered) []importReport {
	reports := make([]importReport, len(lines))
	var cmds []registry.Command
	var of []*importReport // the commands
	for i, line := range lines {
		reports[i].Line = line.n
		if r, err := c.importRequest(line, &reports[i]); err != nil {
			reports[i].refuse(err)
		} else {
			cmds, of = append(cmds, c.addressed(registry.KeyCreate, r)), append(of, &reports[i])
		}
	}
	c.service.DoAll(ctx, cmds, func(i int, reply any, err error) {
		switch k, is := reply.(*registry.KeyReply); {
		case err != nil:
			of[i].refuse(err)
		case !is:
			of[i].refuse(errors.New("a key's reply is none"))
		default:
			of[i].ID, of[i].Seq, of[i].Replayed = k.ID, k.Seq, k.Replayed
		}
	})
	return reports
}

func (r *importReport) refuse(err error) {
	p := problemOf(err)
	code := registry.Invalid // which alone is told apart before the registry is asked
	var refusal *registry.Refusal
	if errors.As(err, &refusal) {
		code = refusal.Code
	} else if p.internal != nil {
		code = registry.Unavailable
	}
	r.Error, r.Message, r.Field = &code, p.message, p.field
}

// importRequest has a command id of its own if the import has one, so that an import that broke off is simply sent again.
func (c *call) importRequest(from numbered, report *importReport) (registry.Request, error) {
	var line importLine
	if err := decode(from.text, &line); err != nil {
		return registry.Request{}, err
	}
	report.Name = line.Name.value
	if line.Digest == "" {
		return registry.Request{}, invalid("digest", "an import needs each key's digest: nobody would ever see a secret that is made here")
	}
	r, err := line.request()
	r.Digest, r.Hint = line.Digest, line.Hint
	if id := c.r.Header.Get(idempotencyHeader); id != "" {
		r.CommandID = id + ":" + strconv.Itoa(from.n)
	}
	return r, err
}
