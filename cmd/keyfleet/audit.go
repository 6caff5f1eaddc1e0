package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/events/sealing"
	"github.com/keyfleet/keyfleet/projections/history"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := a.asReader(group("audit", "Read the log as evidence", a.auditLog(), a.auditState(), a.auditDiff(), a.auditExplain(),
		a.auditVerify(), a.auditCheckpoint(), a.auditExport(), a.auditImport(), a.auditProve()))
	cmd.PersistentFlags().BoolVar(&a.client.mirror, "mirror", false, "--nats is a server with a copy of the log: see keyfleet deploy")
	return cmd
}

func (a *app) auditLog() *cobra.Command {
	var filter auditFilter
	var follow bool
	var format string
	offline := auditReplay{app: a}
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the raw history: every event, of all projects, as it stands in the log",
		Long: `Reads the log from the NATS server itself, not from the registry, checks that every commit follows the one before it,
and shows the events up to the newest. The user needs the right to read the stream. With --json, or --format jsonl, each
event is a line of its own; --format csv is for spreadsheets. --archive reads an archive instead.`,
		Example: `  keyfleet audit log --key demo-key --since 24h
  keyfleet audit log --type deleted,disabled --json --follow
  keyfleet audit log --archive log.kfa --format csv > log.csv`,
		Args: cobra.NoArgs,
	}
	filter.addTo(cmd)
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with new events as they come")
	cmd.Flags().StringVar(&format, "format", formatTable, "table, jsonl or csv")
	offline.addTo(cmd)
	cmd.MarkFlagsMutuallyExclusive("archive", "follow")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := filter.parse(); err != nil {
			return err
		}
		reader, err := a.auditReader(&filter, format)
		if err != nil {
			return err
		}
		if reader.ring, err = readSealingKeys(offline.sealing); err != nil {
			return err
		}
		if offline.file != "" {
			return reader.done(offline.until(cmd.Context(), moment{math.MaxUint64, events.Never}, reader.commit))
		}
		p, err := a.client.locate()
		if err != nil {
			return err
		}
		nc, err := a.client.connect(p)
		if err != nil {
			return err
		}
		defer nc.Close()
		log, end, err := a.client.openForReading(cmd.Context(), nc)
		if err != nil {
			return err
		}
		ctx, forget := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer forget()
		reader.end, reader.follow = end, follow
		return reader.done(reader.read(ctx, log))
	}
	return cmd
}

// auditReader turns the log into lines.
type auditReader struct {
	*app
	filter *auditFilter
	end    events.Seq // where reading stops, unless it follows
	follow bool
	names  names
	ring   *sealing.Ring // nil without a sealing key
	sealed int           // events that were read without their names and actors
	header bool          // was written
	csv    *csv.Writer   // nil for other formats
}

// How events are shown.
const (
	formatTable = "table"
	formatJSONL = "jsonl"
	formatCSV   = "csv"
)

func (a *app) auditReader(filter *auditFilter, format string) (*auditReader, error) {
	r := &auditReader{app: a, filter: filter, names: names{}, end: math.MaxUint64}
	switch format {
	case formatTable:
	case formatJSONL:
		a.json = true
	case formatCSV:
		r.csv = csv.NewWriter(a.out)
	default:
		return nil, usageError("--format: table, jsonl or csv, not %q", format)
	}
	return r, nil
}

// done writes what is still held back, and says if something could not be read.
func (r *auditReader) done(err error) error {
	if r.sealed > 0 {
		r.say("%d events say who did it, and names, only under seal: --sealing-key opens them", r.sealed)
	}
	if r.csv != nil {
		r.csv.Flush()
		err = errors.Join(err, r.csv.Error())
	}
	return err
}

var errAuditDone = errors.New("everything asked for was read")

func (r *auditReader) read(ctx context.Context, log *eventlog.Log) error {
	err := log.Follow(ctx, events.Position{}, func(entries []events.Entry) error {
		for _, e := range entries {
			if err := r.commit(e.Commit); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errAuditDone), ctx.Err() != nil && r.follow:
		err = nil
	case ctx.Err() != nil:
		err = unavailableError("interrupted: what stands above is not all")
	}
	return err
}

func (r *auditReader) commit(c *events.Commit) error {
	list := c.Events()
	for i := range list {
		entry, err := history.Describe(&list[i], c.First+events.Seq(i), c.Time, r.ring)
		if err != nil {
			return fmt.Errorf("event %d: %w", c.First+events.Seq(i), err)
		}
		r.names.learn(&entry)
		if entry.Sealed {
			r.sealed++
		}
		if r.filter.over(&entry) {
			return errAuditDone
		}
		if !r.filter.wants(&entry, r.names) {
			continue
		}
		if err := r.write(&entry); err != nil {
			return err
		}
	}
	if c.Last() >= r.end && !r.follow {
		return errAuditDone
	}
	return nil
}

// Columns of fixed width: lines are written as they are read, for people who watch.
const auditLine = "%7v  %-24s  %-21s  %-12s  %-24s  %-12s  %s\n"

func (r *auditReader) write(e *history.Entry) error {
	switch {
	case r.csv != nil:
		return r.writeCSV(e)
	case r.json:
		return writeJSON(r.out, e)
	}
	if !r.header {
		r.header = true
		if _, err := fmt.Fprintf(r.out, auditLine, "SEQ", "TIME", "EVENT", "PROJECT", "OF", "BY", "DETAILS"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(r.out, auditLine, e.Seq, e.Time, e.Type, clean(orDash(e.Project)), clean(orDash(r.names.of(e.Subject))),
		clean(orDash(e.Actor)), clean(r.names.details(e)))
	return err
}

// writeCSV writes one event with all its columns. Of these only the command's id begins as its sender likes.
func (r *auditReader) writeCSV(e *history.Entry) error {
	if !r.header {
		r.header = true
		if err := r.csv.Write([]string{"seq", "time", "type", "project", "subject", "name", "rev", "actor", "command_id", "details"}); err != nil {
			return err
		}
	}
	err := r.csv.Write([]string{
		fmt.Sprint(e.Seq), e.Time.String(), string(e.Type), e.Project, e.Subject, r.names[e.Subject], fmt.Sprint(e.Rev), e.Actor,
		harmless(e.CommandID), r.names.details(e),
	})
	if r.follow {
		r.csv.Flush()
	}
	return err
}

// harmless keeps a spreadsheet from taking a text for a formula.
func harmless(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
