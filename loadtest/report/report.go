// Package report keeps what a run of load tests has measured, as JSON, and shows it to people: one page of HTML with
// plots for a run, or for two beside each other.
//
// It promises that a page needs nothing but itself, no script among it, and that what was not measured is not drawn. It
// leaves measuring to others.
package report

import (
	"encoding/json"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
)

// Run is what was measured at one time on one machine.
type Run struct {
	Started   time.Time  `json:"started"`
	Seconds   float64    `json:"seconds"`
	Machine   Machine    `json:"machine"`
	Scenarios []Scenario `json:"scenarios"`
}

// Machine is where it was measured, and with what.
type Machine struct {
	CPU       string  `json:"cpu"`
	Cores     int     `json:"cores"`
	MemoryGiB float64 `json:"memory_gib"`
	System    string  `json:"system"`
	Go        string  `json:"go"`
	Version   string  `json:"version"` // of Keyfleet
	Busy      float64 `json:"busy"`    // share of the cores that others used while it began
}

// Scenario is one story that was tried out.
type Scenario struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	CDF     bool     `json:"cdf,omitempty"` // what matters is how many had waited no longer than that
	Figures []Figure `json:"figures,omitempty"`
	Series  []Series `json:"series,omitempty"`
}

// Figure is a single number. Name and unit together say of what.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

// Series is one load, or one kind of waiting.
type Series struct {
	Name      string     `json:"name"`
	Rate      float64    `json:"rate,omitempty"`       // operations that fell due in a second; 0 if each followed the one before
	PerSecond float64    `json:"per_second,omitempty"` // that were done; 0 of waits that belong to something else
	Done      int64      `json:"done"`
	Failed    int64      `json:"failed"`
	Failures  []string   `json:"failures,omitempty"`
	Latency   []Quantile `json:"latency"`           // since an operation fell due
	Service   []Quantile `json:"service,omitempty"` // since it was sent
	Timeline  []Second   `json:"timeline,omitempty"`
}

// Quantile says that so many percent took no longer.
type Quantile struct {
	Percent, Micros float64
}

// MarshalJSON writes it as a pair, of which there are many.
func (q Quantile) MarshalJSON() ([]byte, error) { return json.Marshal([2]float64{q.Percent, q.Micros}) }

// UnmarshalJSON reads the pair.
func (q *Quantile) UnmarshalJSON(text []byte) error {
	var pair [2]float64
	err := json.Unmarshal(text, &pair)
	q.Percent, q.Micros = pair[0], pair[1]
	return err
}

// Second is one of a load: its done operations, its failed ones, and the 99th percentile in microseconds.
type Second struct {
	Done   int64   `json:"done"`
	Failed int64   `json:"failed"`
	P99    float64 `json:"p99"`
}

// Of makes a Series of what became of a load.
func Of(name string, rate float64, o *openloop.Outcome) Series {
	s := Series{
		Name: name, Rate: rate, PerSecond: Significant(float64(o.Done) / o.Took.Seconds()), Done: o.Done, Failed: o.Failed,
		Failures: o.Failures, Latency: quantiles(o.Latency),
	}
	if rate > 0 {
		s.Service = quantiles(o.Service)
	}
	for _, second := range o.Seconds {
		s.Timeline = append(s.Timeline, Second{second.Done, second.Failed, micros(int64(second.P99))})
	}
	return s
}

// OfWaits makes a Series of single waits, one after the other.
func OfWaits(name string, waits []time.Duration) Series {
	h := hdrhistogram.New(1, int64(10*time.Minute), 3)
	for _, wait := range waits {
		_ = h.RecordValue(min(int64(wait), int64(10*time.Minute)))
	}
	return Series{Name: name, Done: int64(len(waits)), Latency: quantiles(h)}
}

// percents are those that a curve is drawn through.
var percents = []float64{
	0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999,
}

// quantiles leaves out those that fewer than one sample speaks for.
func quantiles(h *hdrhistogram.Histogram) (qs []Quantile) {
	n := float64(h.TotalCount())
	for _, p := range percents {
		if n*(100-p) >= 100 {
			qs = append(qs, Quantile{p, micros(h.ValueAtQuantile(p))})
		}
	}
	if n > 0 {
		qs = append(qs, Quantile{100, micros(h.Max())})
	}
	return qs
}

func micros(nanos int64) float64 { return Significant(float64(nanos) / 1000) }

// Significant keeps three digits, and all before the point: there are no more in a measurement.
func Significant(v float64) float64 {
	if v == 0 {
		return 0
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	if scale < 1 {
		return math.Round(v)
	}
	return math.Round(v*scale) / scale
}

// At gives how long so many percent took at most, in microseconds; NaN if too few were measured to say.
func (s *Series) At(percent float64) float64 { return at(s.Latency, percent) }

func at(qs []Quantile, percent float64) float64 {
	for _, q := range qs {
		if q.Percent == percent {
			return q.Micros
		}
	}
	return math.NaN()
}
