package report

import (
	_ "embed"
	"html/template"
	"io"
	"math"
	"slices"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// shown is what the page is made from.
type shown struct {
	*Run
	Before   *Run // nil for a page of one run
	Sections []section
}

type section struct {
	Name, About string
	Figures     []row
	Series      []row
	Failures    []string
	Charts      []template.HTML
}

// row is a name and its values, each beside the one before if there is one.
type row struct {
	Name  string
	Cells []cell
}

type cell struct{ Was, Is, Change string }

// columns of the table of series.
var columns = []struct {
	Name  string
	value func(*Series) float64
	write func(float64) string
}{
	{"due/s", func(s *Series) float64 { return orNaN(s.Rate) }, number},
	{"done/s", func(s *Series) float64 { return orNaN(s.PerSecond) }, number},
	{"failed", func(s *Series) float64 { return float64(s.Failed) }, number},
	{"p50", func(s *Series) float64 { return s.At(50) }, duration},
	{"p90", func(s *Series) float64 { return s.At(90) }, duration},
	{"p99", func(s *Series) float64 { return s.At(99) }, duration},
	{"p99.9", func(s *Series) float64 { return s.At(99.9) }, duration},
	{"max", func(s *Series) float64 { return s.At(100) }, duration},
	{"p50 since sent", func(s *Series) float64 { return at(s.Service, 50) }, duration},
	{"p99 since sent", func(s *Series) float64 { return at(s.Service, 99) }, duration},
}

// orNaN is for what is 0 where there is none.
func orNaN(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}

// Columns are the heads of the table of series.
func (shown) Columns() []string { return columnNames() }

// Origin says when and where it was measured.
func (s shown) Origin() string { return s.origin() }

func columnNames() (names []string) {
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return names
}

// Write writes the page of a run, beside one before it if before is not nil.
func Write(w io.Writer, r, before *Run) error {
	p := shown{Run: r, Before: before}
	for i := range r.Scenarios {
		p.Sections = append(p.Sections, newSection(&r.Scenarios[i], before))
	}
	return page.Execute(w, p)
}

func newSection(s *Scenario, before *Run) section {
	was := &Scenario{}
	sides := []side{{s, false}}
	if before != nil {
		if i := slices.IndexFunc(before.Scenarios, func(b Scenario) bool { return b.Name == s.Name }); i >= 0 {
			was = &before.Scenarios[i]
			sides = append(sides, side{was, true})
		}
	}
	made := section{Name: s.Name, About: s.About, Charts: charts(sides)}
	for _, f := range s.Figures {
		made.Figures = append(made.Figures, figureRow(f, was.Figures))
	}
	for i := range s.Series {
		made.Series = append(made.Series, seriesRow(&s.Series[i], was.Series))
		for _, failure := range s.Series[i].Failures {
			made.Failures = append(made.Failures, s.Series[i].Name+": "+failure)
		}
	}
	return made
}

func figureRow(f Figure, before []Figure) row {
	was := math.NaN()
	if i := slices.IndexFunc(before, func(b Figure) bool { return b.Name == f.Name && b.Unit == f.Unit }); i >= 0 {
		was = before[i].Value
	}
	return row{f.Name, []cell{newCell(was, f.Value, func(v float64) string { return number(Significant(v)) + " " + f.Unit })}}
}

func seriesRow(s *Series, before []Series) row {
	r := row{Name: s.Name}
	i := slices.IndexFunc(before, func(b Series) bool { return b.Name == s.Name })
	for _, c := range columns {
		was := math.NaN()
		if i >= 0 {
			was = c.value(&before[i])
		}
		r.Cells = append(r.Cells, newCell(was, c.value(s), c.write))
	}
	return r
}

func newCell(was, is float64, write func(float64) string) cell {
	c := cell{Is: write(is), Change: change(was, is)}
	if !math.IsNaN(was) {
		c.Was = write(was)
	}
	return c
}
