package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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

// Directors tell by themselves how long they answered with a region that had failed, as clients see it, and of which fault; a drain is none.
func TestDirectorsMeasureTheLastWrongAnswer(t *testing.T) {
	c := newCluster(t, nearcast)
	c.startAll()
	const series = "nearcast_time_to_last_wrong_answer_seconds"
	faults := []struct {
		causes   []string // any of them
		act      func()
		back     func()
		from, to float64 // seconds
	}{
		// Its own agent or those of other regions see it first.
		{[]string{"endpoint", "unreachable"}, func() { c.failRegion(0) }, func() { c.healRegion(0) }, 0, boundFailed.Seconds()},
		{[]string{"silence"}, func() { c.stop("agent-us-east", syscall.SIGKILL) }, func() { c.startAgent(0) }, 1, boundKilled.Seconds()},
		{[]string{"leave"}, func() { c.stop("agent-us-east", syscall.SIGTERM) }, func() { c.startAgent(0) }, 0, boundLeft.Seconds()},
	}
	for _, f := range faults {
		measured := func(d int, series string) (sum float64) {
			for _, cause := range f.causes {
				sum += max(0, c.metric(d, series+`{cause="`+cause+`",region="us-east"}`)) // -1: none
			}
			return sum
		}
		answers, _ := c.observe(time.Duration(f.to*float64(time.Second)), f.act)
		for d := range directors {
			c.waitAnswer(d, 0, 1)
			c.until(fmt.Sprint(f.causes, " is measured"), func() bool { return measured(d, series+"_count") == 1 })
			if got := measured(d, series+"_sum"); got < f.from || got > f.to {
				t.Errorf("%s: director %d measures %v s, want %v to %v; %d answers", f.causes, d, got, f.from, f.to, len(answers))
			} else {
				t.Logf("%s: director %d measures %v s", f.causes, d, got)
			}
		}
		f.back()
		for d := range directors {
			c.waitAnswer(d, 0, 0)
		}
	}
	c.order(0, "drain", "us-east", "--force")
	for d := range directors {
		c.waitAnswer(d, 0, 1)
	}
	time.Sleep(2 * time.Second) // longer than a director waits before it tells
	for d := range directors {
		if n := c.metric(d, series+"_count"); n != float64(len(faults)) {
			t.Errorf("director %d counts %v faults, want %d", d, n, len(faults))
		}
	}
}
