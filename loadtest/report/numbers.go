package report

import (
	"bytes"
	"fmt"
	"slices"
)

// Numbers draws what a run is remembered by, as one SVG: how soon revocations were everywhere, how long checks took, and what
// they cost beside what others use. Scenarios that were not measured leave their places free.
func Numbers(r *Run) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d">`, 2*width, 2*height+24)
	revocation, checks, incumbents := r.find("revocation"), r.find("checks"), r.find("incumbents")
	if c := shares(alone(revocation)); c != nil {
		c.title = "Keys deleted: % refused, and confirmed, by then"
		b.WriteString(c.svg(0, 0))
	}
	if c := latencies(alone(checks)); c != nil {
		c.title = "Checks: latency by percentile"
		b.WriteString(c.svg(width, 0))
	}
	for i, c := range barCharts(incumbents.Figures) {
		if i < 2 {
			c.title = "Same keys, same handler: " + c.title
			b.WriteString(c.svg(i*width, height))
		}
	}
	m := r.Machine
	fmt.Fprintf(&b, `<text x="%d" y="%d" font-family="system-ui,sans-serif" font-size="11" fill="#888" text-anchor="end">%s</text></svg>`+"\n", 2*width-8, 2*height+16,
		escape(fmt.Sprintf("%d cores of %s, everything on one machine, %s", m.Cores, m.CPU, r.Started.UTC().Format("2006-01-02"))))
	return b.Bytes()
}

// find gives the scenario of that name, or one in which nothing was measured.
func (r *Run) find(name string) *Scenario {
	if i := slices.IndexFunc(r.Scenarios, func(s Scenario) bool { return s.Name == name }); i >= 0 {
		return &r.Scenarios[i]
	}
	return &Scenario{}
}

func alone(s *Scenario) []side { return []side{{s, false}} }
