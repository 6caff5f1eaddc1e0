package report

import (
	"bytes"
	"fmt"
)

// Numbers draws what a run is remembered by, as one SVG: how soon revocations were everywhere, and how long checks took.
func Numbers(r *Run) []byte {
	var drawn []*chart
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		sides := []side{{s, false}}
		switch s.Name {
		case "revocation":
			drawn = append(drawn, named("Keys deleted: share that is refused, and confirmed, by then", shares(sides)))
		case "checks":
			drawn = append(drawn, named("Checks: latency by percentile", latencies(sides)))
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d">`, max(1, len(drawn))*width, height)
	for i, c := range drawn {
		if c != nil {
			b.WriteString(c.svg(i * width))
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func named(title string, c *chart) *chart {
	if c != nil {
		c.title = title
	}
	return c
}
