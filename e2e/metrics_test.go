package e2e

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"
)

// metric is the value of one series of a director, -1 if it has none.
func (c *cluster) metric(director int, series string) float64 {
	c.t.Helper()
	text, err := c.get(director, "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), series+" "); ok {
			x, err := strconv.ParseFloat(value, 64)
			if err != nil {
				c.t.Fatalf("%s: %v", series, err)
			}
			return x
		}
	}
	return -1
}
