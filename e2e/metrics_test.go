package e2e

import (
	"strconv"
	"strings"
	"testing"
)

// metric is the value of one series of a director, -1 if it has none.
func (c *cluster) metric(director int, series string) float64 {
	c.t.Helper()
	text, err := c.get(director, "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	return metricIn(c.t, string(text), series)
}

// metricIn is the sum of the series whose name, and labels if given, begin so; -1 if there is none.
func metricIn(t *testing.T, text, series string) float64 {
	t.Helper()
	total, found := 0.0, false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, series)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		f := strings.Fields(line)
		x, err := strconv.ParseFloat(f[len(f)-1], 64)
		if err != nil {
			t.Fatalf("%s: %v", series, err)
		}
		total, found = total+x, true
	}
	if !found {
		return -1
	}
	return total
}
