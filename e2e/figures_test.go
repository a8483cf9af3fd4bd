package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The figures that operators are promised, asked of every director at 200 queries a
// second spread over them. The bounds are those of the default settings.
const (
	boundFailed   = 2*time.Second + fallWindow // an endpoint fails: out of all answers
	boundKilled   = 6 * time.Second            // an agent is killed: its region is out of all answers
	boundLeft     = time.Second                // an agent is told to stop: likewise
	boundRecover  = 2*time.Second + riseWindow // a region recovered: back in all answers
	boundOrder    = time.Second                // an order: in force at every director
	settleTraffic = 500 * time.Millisecond     // traffic before and after, to see that nothing else changes
)

// observe runs act under traffic and returns the answers, and when act was done.
func (c *cluster) observe(bound time.Duration, act func()) ([]answer, time.Time) {
	tr := c.startTraffic()
	time.Sleep(settleTraffic)
	act()
	done := time.Now()
	time.Sleep(bound + settleTraffic)
	return tr.stop(), done
}

// judge fails the test unless no answer is bad, every director answered, and clients of region `of`
// got `before` or `after`, only `after` once the bound has passed; the others got their own region throughout.
func (c *cluster) judge(answers []answer, of, before, after int, done time.Time, bound time.Duration) {
	c.t.Helper()
	last := make([]time.Duration, directors) // of the old answer, after done
	count := make([]int, directors)
	for _, a := range answers {
		if a.err != nil {
			c.t.Errorf("director %d: no reply: %v", a.director, a.err)
			continue
		}
		count[a.director]++
		if bad := a.bad(); bad != "" {
			c.t.Errorf("director %d, client of %s: %s", a.director, regions[a.client].name, bad)
		}
		switch {
		case a.client != of && a.region != a.client:
			c.t.Errorf("director %d answers the client of %s with %s", a.director, regions[a.client].name, regions[a.region].name)
		case a.client == of && a.region == before:
			last[a.director] = max(last[a.director], a.at.Sub(done))
		case a.client == of && a.region != after:
			c.t.Errorf("director %d answers the client of %s with %s", a.director, regions[a.client].name, regions[a.region].name)
		}
	}
	for d, n := range count {
		if n == 0 {
			c.t.Errorf("director %d gave no answer", d)
		}
		c.t.Logf("director %d: %d answers, the last with %s after %v (bound %v)", d, n, regions[before].name, last[d].Round(10*time.Millisecond), bound)
		if last[d] > bound {
			c.t.Errorf("director %d answers with %s for %v, longer than %v", d, regions[before].name, last[d], bound)
		}
	}
}

// Region 0 is the one that fails; its clients are next nearest to region 1.
func TestFigures(t *testing.T) {
	c := newCluster(t, nearcast)
	c.startAll()
	tests := []struct {
		name          string
		before, after int
		bound         time.Duration
		act           func()
	}{
		{"all endpoints of a region fail", 0, 1, boundFailed, func() { c.failRegion(0) }},
		{"they recover", 1, 0, boundRecover, func() { c.healRegion(0) }},
		{"its agent is killed", 0, 1, boundKilled, func() { c.stop("agent-us-east", syscall.SIGKILL) }},
		{"it is started again", 1, 0, boundRecover, func() { c.startAgent(0) }},
		{"it is told to stop", 0, 1, boundLeft, func() { c.stop("agent-us-east", syscall.SIGTERM) }},
		{"it is started once more", 1, 0, boundRecover, func() { c.startAgent(0) }},
		{"an operator drains the region", 0, 1, boundOrder, func() { c.order(1, "drain", "us-east", "--reason", "test") }},
		{"and takes it back at the other director", 1, 0, boundOrder, func() { c.order(0, "undrain", "us-east") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			outer := c.t
			c.t = t
			defer func() { c.t = outer }()
			answers, done := c.observe(tt.bound, tt.act)
			c.judge(answers, 0, tt.before, tt.after, done, tt.bound)
		})
	}
}

func (c *cluster) order(director int, args ...string) {
	c.t.Helper()
	out, err := c.run(append(args, "--server", fmt.Sprintf("127.0.0.1:%d", c.admin[director]))...)
	if err != nil {
		c.t.Errorf("%v: %v: %s", args, err, out)
	}
}

// One of a region's endpoints fails: the region stays, the endpoint leaves.
func TestAFailedEndpointLeavesTheAnswers(t *testing.T) {
	c := newCluster(t, nearcast)
	c.startAll()
	answers, done := c.observe(boundFailed, c.backends[0][1].stop)
	for _, a := range answers {
		if a.err != nil || a.bad() != "" || a.region != a.client {
			t.Errorf("director %d, client of %s: %v %s region %d", a.director, regions[a.client].name, a.err, a.bad(), a.region)
		}
		if a.client == 0 && a.at.Sub(done) > boundFailed && len(a.addrs) != backendsOf-1 {
			t.Errorf("director %d answers %v after %v", a.director, a.addrs, a.at.Sub(done))
		}
	}
}

// All regions down: every client gets its own region as if it were healthy, with a short TTL.
func TestAllRegionsDownFailsOpen(t *testing.T) {
	c := newCluster(t, nearcast)
	c.startAll()
	answers, _ := c.observe(boundFailed, func() {
		for i := range regions {
			c.failRegion(i)
		}
	})
	for _, a := range answers {
		if a.err != nil || a.bad() != "" {
			t.Errorf("director %d, client of %s: %v %s", a.director, regions[a.client].name, a.err, a.bad())
		}
	}
	for d := range directors {
		for r := range regions {
			a := c.ask(d, r)
			if a.region != r || a.ttl > 10 || len(a.addrs) != backendsOf {
				t.Errorf("director %d answers the client of %s with %v, TTL %d; want all of its own region, TTL at most 10", d, regions[r].name, a.addrs, a.ttl)
			}
		}
		c.until("the metric of answers that failed open counts", func() bool {
			return c.metric(d, `nearcast_fail_open_answers_total{service="www.geo.example.com."}`) > 0
		})
	}
}

// A second of three regions fails: the guard holds it in the answers, and says so, until the first recovers.
func TestTheGuardHoldsASecondRegion(t *testing.T) {
	c := newCluster(t, nearcast)
	c.startAll()
	held := func(want float64) {
		t.Helper()
		for d := range directors {
			c.until("the metric of the guard follows", func() bool {
				return c.metric(d, `nearcast_guard_held{region="eu-west",service="www.geo.example.com."}`) == want
			})
		}
	}
	c.failRegion(0)
	for d := range directors {
		c.waitAnswer(d, 0, 1)
	}
	c.failRegion(1)
	held(1)
	for d := range directors {
		for client, want := range map[int]int{0: 1, 1: 1, 2: 2} {
			if a := c.ask(d, client); a.err != nil || a.region != want || want == 1 && a.ttl > 10 {
				t.Errorf("director %d answers the client of %s with region %d, TTL %d (%v); want region %d, at most 10 s if it is held", d, regions[client].name, a.region, a.ttl, a.err, want)
			}
		}
	}
	out, err := c.run("status", "--server", fmt.Sprintf("127.0.0.1:%d", c.admin[0]))
	if want := "eu-west stays in the answers, held by the guard: 33 % of the capacity is out already, at most 50 % may be"; err != nil || !strings.Contains(out, want) {
		t.Errorf("no %q in the status: %v\n%s", want, err, out)
	}
	c.healRegion(0)
	held(0)
	for d := range directors {
		c.waitAnswer(d, 1, 0)
	}
}

// A director that starts while a region is down never answers with it: neither one that was there
// when it failed, nor one that was away.
func TestARestartedDirectorNeverAnswersWithADownRegion(t *testing.T) {
	c := newCluster(t, nearcast)
	c.startAll()
	for _, tt := range []struct {
		name string
		fail func()
		heal func()
	}{
		{"its endpoints failed", func() { c.failRegion(0) }, func() { c.healRegion(0) }},
		{"its agent was killed", func() { c.stop("agent-us-east", syscall.SIGKILL) }, func() { c.startAgent(0) }},
	} {
		for _, away := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the director was away: %v", tt.name, away), func(t *testing.T) {
				outer := c.t
				c.t = t
				defer func() { c.t = outer }()
				if away {
					c.stop("director-0", syscall.SIGKILL)
				}
				tt.fail()
				c.waitAnswer(1, 0, 1)
				if !away {
					c.waitAnswer(0, 0, 1)
					c.stop("director-0", syscall.SIGKILL)
				}
				c.startDirector(0)
				first := 0
				for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					a := c.ask(0, 0)
					if a.err != nil {
						continue // not up yet
					}
					first++
					if a.region != 1 || a.bad() != "" {
						t.Fatalf("answer %d has region %d %s, want only eu-west", first, a.region, a.bad())
					}
				}
				if first == 0 {
					t.Fatal("the director never answered")
				}
				tt.heal()
				c.waitHeard(0, len(regions))
				for d := range directors {
					c.waitAnswer(d, 0, 0)
				}
			})
		}
	}
}

// Directors and agents are killed one after the other while clients ask: only who is dead does not answer, no answer is
// empty or wrong, and each client has its own region but for the time that this one's agent is dead.
func TestKilledInTurn(t *testing.T) {
	c := newCluster(t, nearcast)
	c.startAll()
	type span struct{ from, to time.Time }
	var directorDead [directors]span
	agentDead := make([]span, len(regions))
	tr := c.startTraffic()
	for d := range directors {
		directorDead[d].from = time.Now()
		c.stop(fmt.Sprintf("director-%d", d), syscall.SIGKILL)
		c.startDirector(d)
		c.until("the director answers again", func() bool { a := c.ask(d, 0); return a.err == nil })
		directorDead[d].to = time.Now()
		c.waitHeard(d, len(regions))
	}
	for r := range regions {
		agentDead[r].from = time.Now()
		c.stop("agent-"+regions[r].name, syscall.SIGKILL)
		c.until("the region left the answers", func() bool { a := c.ask(0, r); return a.err == nil && a.region != r })
		c.startAgent(r)
		for d := range directors {
			c.waitAnswer(d, r, r)
		}
		agentDead[r].to = time.Now()
	}
	answers := tr.stop()
	if len(answers) < rate*5 {
		t.Fatalf("%d answers say little", len(answers))
	}
	during := func(s span, at time.Time, lead time.Duration) bool {
		return at.After(s.from.Add(-lead)) && at.Before(s.to)
	}
	for _, a := range answers {
		switch {
		case a.err != nil && !during(directorDead[a.director], a.at, queryTimeout):
			t.Errorf("director %d, which lives, gives no answer: %v", a.director, a.err)
		case a.bad() != "":
			t.Errorf("director %d answers the client of %s: %s", a.director, regions[a.client].name, a.bad())
		case a.err == nil && a.region != a.client && !during(agentDead[a.client], a.at, 0):
			t.Errorf("director %d answers the client of %s, which is up, with %s", a.director, regions[a.client].name, regions[a.region].name)
		}
	}
}
