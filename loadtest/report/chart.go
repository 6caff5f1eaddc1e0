package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// The size of a chart, and of what lies around its plot.
const (
	width, height            = 520, 280
	left, right, top, bottom = 62, 22, 30, 62
)

// chart is lines over two axes.
type chart struct {
	title string
	x, y  axis
	lines []line
}

// axis maps values to places. Its ticks' values are mapped like any others.
type axis struct {
	label string
	place func(v float64) float64 // monotonous
	low   float64                 // placed values that the axis spans
	high  float64
	ticks []tick
}

type tick struct {
	value float64
	text  string
}

type line struct {
	name   string
	colour int  // of the palette
	dashed bool // it is of the run before
	points []point
}

type point struct{ x, y float64 }

// style is in every SVG, so that each can stand alone.
const style = `<style>
.chart{font:11px system-ui,sans-serif}.chart text{fill:#444}.chart .title{font-size:13px;font-weight:600;fill:#111}
.chart .grid{stroke:#8884;stroke-width:.7}.chart path,.chart .key{fill:none;stroke-width:1.8}.chart .dashed{stroke-dasharray:5 4}
.chart .c0{stroke:#0072b2}.chart .c1{stroke:#d55e00}.chart .c2{stroke:#009e73}.chart .c3{stroke:#cc79a7}.chart .c4{stroke:#b58900}.chart .c5{stroke:#56b4e9}
.chart .paper{fill:#fff}.chart .bar{fill:#0072b2}
@media(prefers-color-scheme:dark){.chart text{fill:#bbb}.chart .title{fill:#eee}.chart .paper{fill:#16181d}}
</style>`

// open begins an SVG with a title, at a place in one around it or as one of its own.
func open(b *strings.Builder, x, y int, title string) {
	fmt.Fprintf(b, `<svg class="chart" xmlns="http://www.w3.org/2000/svg" x="%d" y="%d" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`,
		x, y, width, height, width, height, escape(title))
	b.WriteString(style)
	fmt.Fprintf(b, `<rect class="paper" width="%d" height="%d" rx="6"/><text class="title" x="%d" y="18">%s</text>`, width, height, left, escape(title))
}

func (c *chart) svg(x, y int) string {
	var b strings.Builder
	open(&b, x, y, c.title)
	c.grid(&b)
	for _, l := range c.lines {
		c.draw(&b, l)
	}
	c.legend(&b)
	b.WriteString("</svg>")
	return b.String()
}

func (c *chart) grid(b *strings.Builder) {
	for _, t := range c.x.ticks {
		x := c.x.at(t.value, left, width-right)
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%[1]f" y1="%d" y2="%d"/>`, x, top, height-bottom)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x, height-bottom+14, t.text)
	}
	for _, t := range c.y.ticks {
		y := c.y.at(t.value, height-bottom, top)
		fmt.Fprintf(b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%[3]f"/>`, left, width-right, y)
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-6, y+4, t.text)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-bottom+29, escape(c.x.label))
	fmt.Fprintf(b, `<text transform="translate(13 %d) rotate(-90)" text-anchor="middle">%s</text>`, (top+height-bottom)/2, escape(c.y.label))
}

func (c *chart) draw(b *strings.Builder, l line) {
	var path strings.Builder
	for i, p := range l.points {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], c.x.at(p.x, left, width-right), c.y.at(p.y, height-bottom, top))
	}
	if path.Len() > 0 {
		fmt.Fprintf(b, `<path class="%s" d="%s"><title>%s</title></path>`, l.class(), path.String(), escape(l.name))
	}
}

// legend has its entries side by side, on as many rows as fit below the plot.
func (c *chart) legend(b *strings.Builder) {
	x, y := left, height-bottom+42
	for _, l := range c.lines {
		long := 30 + 6*len(l.name)
		if x > left && x+long > width {
			x, y = left, y+13
		}
		fmt.Fprintf(b, `<line class="key %s" x1="%d" x2="%d" y1="%d" y2="%[4]d"/><text x="%d" y="%d">%s</text>`,
			l.class(), x, x+16, y, x+20, y+4, escape(l.name))
		x += long
	}
}

func (l line) class() string {
	if l.dashed {
		return fmt.Sprintf("c%d dashed", l.colour%6)
	}
	return fmt.Sprintf("c%d", l.colour%6)
}

// at gives where a value lies between two ends of the plot.
func (a *axis) at(v, from, to float64) float64 {
	if a.high == a.low {
		return from
	}
	share := (a.place(v) - a.low) / (a.high - a.low)
	return from + min(max(share, 0), 1)*(to-from)
}

// linear is an axis from 0 that has room for the highest value.
func linear(label string, highest float64) axis {
	step := niceStep(highest / 5)
	a := axis{label: label, place: func(v float64) float64 { return v }, high: math.Ceil(highest/step) * step}
	for i := 0; float64(i)*step <= a.high; i++ {
		a.ticks = append(a.ticks, tick{float64(i) * step, number(float64(i) * step)})
	}
	return a
}

// niceStep is the least of 1, 2, 5, 10, 20, ... that is as large as v; at least 1.
func niceStep(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(max(v, 1))))
	for _, step := range []float64{1, 2, 5} {
		if step*decade >= v {
			return step * decade
		}
	}
	return 10 * decade
}

// durations is a logarithmic axis of microseconds, in whole decades.
func durations(label string, lowest, highest float64) axis {
	a := axis{label: label, place: math.Log10, low: math.Floor(math.Log10(lowest)), high: math.Ceil(math.Log10(highest))}
	if a.high == a.low {
		a.high++
	}
	for d := a.low; d <= a.high; d++ {
		v := math.Pow(10, d)
		a.ticks = append(a.ticks, tick{v, duration(v)})
	}
	return a
}

// tails is an axis of percentages that has as much room for the last 0.1% as for the 0.9% before.
func tails(most float64) axis {
	place := func(percent float64) float64 { return math.Log10(100 / (100 - min(percent, most))) }
	a := axis{label: "percentile", place: place, high: place(most)}
	for _, p := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999} {
		if p <= most {
			a.ticks = append(a.ticks, tick{p, fmt.Sprint(p)})
		}
	}
	return a
}

func escape(text string) string { return template.HTMLEscapeString(text) }
