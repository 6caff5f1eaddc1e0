package report

import (
	"fmt"
	"math"
	"strconv"
)

// duration writes microseconds as people do.
func duration(micros float64) string {
	switch {
	case math.IsNaN(micros):
		return "–"
	case micros < 1:
		return number(Significant(1000*micros)) + " ns"
	case micros < 1000:
		return number(Significant(micros)) + " µs"
	case micros < 1e6:
		return number(Significant(micros/1000)) + " ms"
	}
	return number(Significant(micros/1e6)) + " s"
}

// number has thousands apart.
func number(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if v < 10_000 || v != math.Trunc(v) {
		return text
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// change says how much more or less is than was.
func change(was, is float64) string {
	if math.IsNaN(was) || math.IsNaN(is) || was == 0 {
		return ""
	}
	return fmt.Sprintf("%+.0f%%", 100*(is/was-1))
}
