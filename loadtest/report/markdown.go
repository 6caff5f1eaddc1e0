package report

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes the tables of a run, for where a page of HTML is not shown.
func WriteMarkdown(w io.Writer, r *Run) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Keyfleet under load\n\n%s It took %.0f s. Latency counts from the instant at which a request fell due.\n\n![plots](numbers.svg)\n\n"+
		"With all plots: [index.html](index.html). The numbers: [run.json](run.json).\n", r.origin(), r.Seconds)
	for i := range r.Scenarios {
		s := newSection(&r.Scenarios[i], nil)
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.Name, s.About)
		if len(s.Figures) > 0 {
			b.WriteString("\n| figure | |\n|---|---|\n")
			writeRows(&b, s.Figures)
		}
		if len(s.Series) > 0 {
			fmt.Fprintf(&b, "\n| load | %s |\n|---%s|\n", strings.Join(columnNames(), " | "), strings.Repeat("|--:", len(columns)))
			writeRows(&b, s.Series)
		}
		for _, failure := range s.Failures {
			fmt.Fprintf(&b, "\nFailed: %s\n", failure)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeRows(b *strings.Builder, rows []row) {
	for _, r := range rows {
		fmt.Fprintf(b, "| %s |", r.Name)
		for _, c := range r.Cells {
			fmt.Fprintf(b, " %s |", c.Is)
		}
		b.WriteString("\n")
	}
}

// origin says when and where a run was measured.
func (r *Run) origin() string {
	m := r.Machine
	return fmt.Sprintf("%s UTC, Keyfleet %s, %s, %d cores of %s, %.0f GiB, %s, of which others used %.1f cores as it began. Everything, load included, ran on this one machine.",
		r.Started.UTC().Format("2006-01-02 15:04"), m.Version, m.Go, m.Cores, m.CPU, m.MemoryGiB, m.System, m.Busy)
}
