package report

import (
	"fmt"
	"strings"
)

// Figures of one unit are drawn beside each other if there are at least so many, and no more than have room.
const fewestBars, mostBars = 3, 14

// barChart is figures of one unit.
type barChart struct {
	title string
	bars  []Figure
}

// barCharts groups figures by their unit, in the order in which those come.
func barCharts(figures []Figure) (charts []*barChart) {
	at := map[string]int{}
	for _, f := range figures {
		if f.Unit == "" {
			continue
		}
		if _, known := at[f.Unit]; !known {
			at[f.Unit] = len(charts)
			charts = append(charts, &barChart{title: f.Unit})
		}
		charts[at[f.Unit]].bars = append(charts[at[f.Unit]].bars, f)
	}
	drawn := charts[:0]
	for _, c := range charts {
		if len(c.bars) >= fewestBars && len(c.bars) <= mostBars {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

// svg draws the bars below each other, each with its name before it and its value behind.
func (c *barChart) svg(x, y int) string {
	const names, values = 236, 62
	longest := 0.0
	for _, f := range c.bars {
		longest = max(longest, f.Value)
	}
	pitch := min(30, (height-top-12)/len(c.bars))
	var b strings.Builder
	open(&b, x, y, c.title)
	for i, f := range c.bars {
		long := 0.0
		if longest > 0 {
			long = f.Value / longest * (width - names - values)
		}
		middle := top + 8 + i*pitch + pitch/2
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, names-6, middle+4, escape(f.Name))
		fmt.Fprintf(&b, `<rect class="bar" x="%d" y="%d" width="%.1f" height="%d"/>`, names, middle-pitch/3, long, pitch*2/3)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`, names+long+5, middle+4, number(Significant(f.Value)))
	}
	b.WriteString("</svg>")
	return b.String()
}
