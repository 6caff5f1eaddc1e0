package report

import (
	"html/template"
	"math"
)

// side is a scenario as one run has it. The run before is drawn dashed.
type side struct {
	*Scenario
	before bool
}

// charts draws what the sides have measured.
func charts(sides []side) (drawn []template.HTML) {
	for _, c := range barCharts(sides[0].Figures) {
		drawn = append(drawn, template.HTML(c.svg(0, 0))) // every text in it is escaped
	}
	for _, draw := range []func([]side) *chart{latencies, shares, throughput, slowest} {
		if c := draw(sides); c != nil {
			drawn = append(drawn, template.HTML(c.svg(0, 0)))
		}
	}
	return drawn
}

// lines makes one of each series. Those of one name have one colour.
func lines(sides []side, points func(*Series) []point) (made []line) {
	colours := map[string]int{}
	for _, s := range sides {
		for i := range s.Series {
			l := line{name: s.Series[i].Name, dashed: s.before, points: points(&s.Series[i])}
			if _, known := colours[l.name]; !known {
				colours[l.name] = len(colours)
			}
			l.colour = colours[l.name]
			if s.before {
				l.name += ", before"
			}
			if len(l.points) > 0 {
				made = append(made, l)
			}
		}
	}
	return made
}

// latencies are durations by percentile.
func latencies(sides []side) *chart {
	most := 0.0
	ls := lines(sides, func(s *Series) (points []point) {
		for _, q := range s.Latency {
			if q.Percent == 100 {
				q.Percent = 100 - 100/float64(s.Done+s.Failed+1) // where one of so many stands
			}
			most = max(most, q.Percent)
			points = append(points, point{q.Percent, q.Micros})
		}
		return points
	})
	if len(ls) == 0 {
		return nil
	}
	low, high := span(ls, func(p point) float64 { return p.y })
	return &chart{title: "Latency by percentile", x: tails(most), y: durations("", low, high), lines: ls}
}

// shares are percentages by duration, of scenarios that ask for that.
func shares(sides []side) *chart {
	if !sides[0].CDF {
		return nil
	}
	ls := lines(sides, func(s *Series) (points []point) {
		for _, q := range s.Latency {
			points = append(points, point{q.Micros, q.Percent})
		}
		return points
	})
	if len(ls) == 0 {
		return nil
	}
	low, high := span(ls, func(p point) float64 { return p.x })
	return &chart{title: "Share that is done by then", x: durations("", low, high), y: linear("%", 100), lines: ls}
}

func throughput(sides []side) *chart {
	return overTime(sides, "Done in each second", func(s Second) float64 { return float64(s.Done) }, linearFor)
}

func slowest(sides []side) *chart {
	return overTime(sides, "99th percentile in each second", func(s Second) float64 { return s.P99 }, func(ls []line) axis {
		low, high := span(ls, func(p point) float64 { return p.y })
		return durations("", low, high)
	})
}

func linearFor(ls []line) axis {
	_, high := span(ls, func(p point) float64 { return p.y })
	return linear("", high)
}

// overTime leaves out the last second, which is not a whole one.
func overTime(sides []side, title string, value func(Second) float64, y func([]line) axis) *chart {
	longest := 0
	ls := lines(sides, func(s *Series) (points []point) {
		for i := range len(s.Timeline) - 1 {
			if v := value(s.Timeline[i]); v > 0 || title == "Done in each second" {
				points = append(points, point{float64(i), v})
			}
			longest = max(longest, i)
		}
		return points
	})
	if len(ls) == 0 || longest == 0 {
		return nil
	}
	return &chart{title: title, x: linear("seconds", float64(longest)), y: y(ls), lines: ls}
}

// span finds the least and the greatest value above zero.
func span(ls []line, value func(point) float64) (low, high float64) {
	low = math.Inf(1)
	for _, l := range ls {
		for _, p := range l.points {
			if v := value(p); v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if high == 0 {
		return 1, 1
	}
	return low, high
}
