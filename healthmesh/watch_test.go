package healthmesh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// outcomes by one letter: success, failure, and a check that could not be made.
var letters = map[rune]outcome{'+': good(reasonConnected, 0), '-': bad(reasonRefused, 0), '?': {state: Unknown, why: reason{code: reasonUnable}}}

// run has a watch take results a second apart, and returns its states, one letter for each: u, d, or ? for unknown.
func run(w *watch, results string) string {
	var b strings.Builder
	now := time.Now()
	for _, c := range results {
		now = now.Add(time.Second)
		w.take(letters[c], now)
		b.WriteByte("?ud"[w.state])
	}
	return b.String()
}

// The first result decides; after it, as many in a row as fall or rise says, and a time without a failure.
func TestTake(t *testing.T) {
	for _, c := range []struct {
		name       string
		fall, rise int
		hold       time.Duration
		results    string
		want       string
	}{
		{"the first decides", 3, 2, minHold, "+", "u"},
		{"the first decides, down", 3, 2, minHold, "-", "d"},
		{"a blip", 3, 2, minHold, "+--+--+", "uuuuuuu"},
		{"fall and rise", 3, 2, minHold, "+---+-++", "uuuddddu"},
		{"what was down first rises as well", 2, 2, minHold, "-+-++", "ddddu"},
		{"held down", 2, 2, 5 * time.Second, "+--+++++", "uudddddu"},
		{"held from the last failure", 2, 2, 5 * time.Second, "+--++-+++++", "uuddddddddu"},
		{"rise is longer than the hold", 1, 6, 2 * time.Second, "+-++++++", "uddddddu"},
		{"a second fall doubles", 2, 1, 3 * time.Second, "+--+++--++++++", "uuddduuddddddu"},
		{"not made at first", 2, 2, minHold, "??+", "??u"},
		{"no longer made", 2, 2, minHold, "+?+??", "uuuu?"},
		{"not made, and then a failure", 2, 2, minHold, "+??-+--", "uu????d"},
		{"every second one not made", 2, 2, minHold, "+-?-?+?+", "uuuddddu"},
		{"every second one not made, from unknown", 2, 2, minHold, "+??-?-", "uu???d"},
		{"a failure after what could not be made is no second fall", 2, 1, 3 * time.Second, "+--??--++++", "uudd??ddduu"},
		{"not made does not go around the hold", 2, 1, 9 * time.Second, "+--??+", "uudd??"},
	} {
		w := newWatch(Check{Fall: c.fall, Rise: c.rise, HoldDown: c.hold})
		if got := run(w, c.results); got != c.want {
			t.Errorf("%s: %s gives\n%s, want\n%s", c.name, c.results, got, c.want)
		}
	}
}

// Three seconds up and three down for five minutes are two changes: down at once, and up when it has ended.
func TestFlapping(t *testing.T) {
	w := newWatch(Check{Type: checkTCP}.withDefaults())
	cycles := strings.Repeat("---+++", 50)
	states := run(w, "+"+cycles+strings.Repeat("+", 10))
	if changes := strings.Count(states, "ud") + strings.Count(states, "du"); changes != 2 || !strings.HasSuffix(states, "u") {
		t.Errorf("%d changes, want one down and one up at the end: %s", changes, states)
	}
	if w.damper.suppressed != 49 {
		t.Errorf("%d flips were suppressed, want one in each cycle after the first: 49", w.damper.suppressed)
	}
}

// A hold-down doubles with each fall up to its bound, and halves with calm.
func TestDamper(t *testing.T) {
	start := time.Now()
	d := damper{least: 5 * time.Second}
	for i, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
		d.fall(start)
		if d.hold != want*time.Second {
			t.Errorf("fall %d: %v, want %v", i, d.hold, want*time.Second)
		}
	}
	for _, c := range []struct{ after, want time.Duration }{
		{calmAfter - 1, 300 * time.Second}, {calmAfter, 150 * time.Second}, {3 * calmAfter, 37500 * time.Millisecond}, {100 * calmAfter, 0},
	} {
		if got := d.decayed(start.Add(c.after)); got != c.want {
			t.Errorf("after %v: %v, want %v", c.after, got, c.want)
		}
	}
	if d.fall(start.Add(100 * calmAfter)); d.hold != d.least {
		t.Errorf("a fall after long calm: %v, want as the first", d.hold)
	}
	long := damper{least: maxHold}
	long.fall(start)
	if long.fall(start); long.hold != maxHold {
		t.Errorf("a hold-down that begins above the bound: %v", long.hold)
	}
}

// What an agent says and logs of an endpoint that flaps.
func TestFlappingIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := &checker{o: AgentOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}, load: new(loader), fleet: new(fleet)}
		var said Status
		a.publish = func(s Status) { said = s }
		w := newWatch(Check{Type: checkTCP}.withDefaults())
		s := &subject{Target: Target{ID: 1, Name: "www 192.0.2.1"}, watches: []*watch{w}}
		w.users = []*subject{s}
		a.subjects = map[EndpointID]*subject{1: s}
		began := time.Now()
		for i, c := range "+---+++---+++-+++++" {
			time.Sleep(time.Second)
			a.judge(result{watch: w, outcome: letters[c], at: time.Now()})
			want := map[int]string{0: "connected", 2: "connection refused", 6: "connection refused", 7: "connection refused", 11: "flapping: held down", 13: "connection refused", 18: "connected"}
			if reason, ok := want[i]; ok && said.Endpoints[1].Reason != reason {
				t.Errorf("result %d: reason %q, want %q", i, said.Endpoints[1].Reason, reason)
			}
			if at := said.Endpoints[1].At.Sub(began); i == 14 && at != 3*time.Second {
				t.Errorf("down since second %v, want the second failure at 3s", at)
			}
		}
		if said.Suppressed != 2 || said.Endpoints[1].State != Up || said.Endpoints[1].At != time.Now() {
			t.Errorf("%+v", said)
		}
		for _, line := range []string{"after=up", "after=down", "endpoint flaps", "no longer flaps"} {
			if n := strings.Count(log.String(), line); n != 1 && line != "after=up" || n == 0 {
				t.Errorf("%d lines of %q in\n%s", n, line, log.String())
			}
		}
	})
}

// Flips of its own region's endpoints are what an agent counts: those that it witnesses are counted in their own.
func TestFlipsAreCountedInTheirRegion(t *testing.T) {
	for region, want := range map[string]uint32{"eu-west": 1, "us-east": 0} {
		a := &checker{o: AgentOptions{Region: "eu-west", Log: slog.New(slog.DiscardHandler)}, load: new(loader), fleet: new(fleet), publish: func(Status) {}}
		w := newWatch(Check{Type: checkTCP}.withDefaults())
		s := &subject{Target: Target{ID: 1, Name: "www 192.0.2.1", Region: region}, watches: []*watch{w}}
		w.users, a.subjects, a.watches = []*subject{s}, map[EndpointID]*subject{1: s}, map[string]*watch{"": w}
		a.recount("eu-west")
		now := time.Now()
		for _, c := range "+---+++---" {
			now = now.Add(time.Second)
			others := now.Add(-time.Millisecond) // are well
			a.judge(result{watch: w, outcome: letters[c], began: now, reached: others, at: now})
		}
		if a.suppressed != want {
			t.Errorf("an agent of eu-west counts %d flips of %s, want %d", a.suppressed, region, want)
		}
	}
}

// The whole table of combine for three checks of three, and of five where two are not for this agent: it finds down what is so whatever
// these say.
func TestCombine(t *testing.T) {
	names := "?ud"
	for _, c := range []struct {
		need   int
		others int
		want   func(up, down int) State
	}{
		{0, 0, func(up, down int) State { return pick(up == 3, down > 0) }},
		{1, 0, func(up, down int) State { return pick(up > 0, down == 3) }},
		{2, 0, func(up, down int) State { return pick(up >= 2, down >= 2) }},
		{3, 0, func(up, down int) State { return pick(up == 3, down > 0) }},
		{7, 0, func(up, down int) State { return pick(up == 3, down > 0) }}, // more than there are
		{0, 2, func(up, down int) State { return pick(up == 3, down > 0) }},
		{1, 2, func(up, down int) State { return pick(up > 0, false) }},
		{2, 2, func(up, down int) State { return pick(up >= 2, false) }},
		{3, 2, func(up, down int) State { return pick(up == 3, down == 3) }},
		{4, 2, func(up, down int) State { return pick(up == 3, down > 1) }},
		{5, 2, func(up, down int) State { return pick(up == 3, down > 0) }},
	} {
		for i := range 27 {
			states := []State{State(i % 3), State(i / 3 % 3), State(i / 9)}
			s := &subject{Target: Target{Need: c.need}, others: c.others}
			var count [3]int
			first := map[State]reason{}
			for n, state := range states {
				why := reason{reasonStatus, uint16(n)}
				if count[state]++; count[state] == 1 {
					first[state] = why
				}
				s.watches = append(s.watches, &watch{state: state, reason: why})
			}
			got, why := s.combine()
			if want := c.want(count[Up], count[Down]); got != want || why != first[got] && got != Unknown {
				t.Errorf("need %d of %v and %d others: %c for %v, want %c for %v", c.need, states, c.others, names[got], why, names[want], first[want])
			}
		}
	}
}

func pick(up, down bool) State {
	switch {
	case up:
		return Up
	case down:
		return Down
	}
	return Unknown
}

// Checks that differ in nothing run once, whatever services and combinations they are in; families are judged apart, and
// programs are for their own region.
func TestAdoptTargets(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &checker{results: make(chan result), slots: make(chan struct{}, 1)}
	defer a.running.Wait()
	defer cancel()
	web := Check{Type: checkHTTP, Host: "x", Interval: time.Hour}.withDefaults()
	other := web
	other.Path = "/other"
	program := Check{Type: checkExec, Command: []string{"/bin/true"}, Interval: time.Hour}.withDefaults()
	connect := Check{Type: checkTCP, Port: 1, Interval: time.Hour}.withDefaults() // of no service in particular
	target := func(id EndpointID, region, endpoint string, checks ...Check) Target {
		return Target{ID: id, Name: fmt.Sprint(id), Service: fmt.Sprint("service", id%2), Region: region, Endpoint: endpoint, Checks: checks}
	}
	o := AgentOptions{Region: "here", Log: slog.New(slog.DiscardHandler), Targets: []Target{
		target(1, "here", "192.0.2.1", web, other),
		target(2, "here", "192.0.2.1", web),
		target(3, "here", "2001:db8::1", web),
		target(4, "there", "192.0.2.1", web, program),
		target(5, "there", "192.0.2.9", program),
		target(6, "here", "192.0.2.1", program, web),
		target(7, "here", "192.0.2.1", program),
		target(8, "here", "192.0.2.1"),
		target(9, "here", "192.0.2.9", connect),
		target(10, "here", "192.0.2.9", connect),
	}}
	a.adoptTargets(ctx, o, time.Now())
	users := map[string]int{}
	for _, w := range a.watches {
		users[fmt.Sprintf("%s%s of %d", w.check.Type, w.check.Path, w.users[0].ID)] = len(w.users)
	}
	want := "map[exec of 6:1 exec of 7:1 http/ of 1:4 http/ of 3:1 http/other of 1:1 tcp of 9:2]"
	if got := fmt.Sprint(users); got != want {
		t.Errorf("watches and their users: %s, want %s", got, want)
	}
	if len(a.subjects) != 8 || a.subjects[5] != nil || a.subjects[8] != nil || len(a.subjects[4].watches) != 1 || a.subjects[4].others != 1 {
		t.Errorf("%d endpoints are watched, want all but 5, a program elsewhere, and 8, without checks", len(a.subjects))
	}
	kept := a.subjects[2].watches[0]
	kept.state, a.subjects[2].state = Down, Down
	o.Targets = []Target{target(2, "here", "192.0.2.1", other, web)}
	a.adoptTargets(ctx, o, time.Now())
	if s := a.subjects[2]; len(a.watches) != 2 || s.watches[1] != kept || s.state != Down || len(kept.users) != 1 {
		t.Errorf("%d watches, %v: what stays keeps its state", len(a.watches), s)
	}
}

// An agent reports so many endpoints at most: its own come first, those without a check too where backends are watched, and what is left
// out is told.
func TestEndpointsOverTheBound(t *testing.T) {
	const unchecked, duties, over = maxEndpoints - 2, 5, 3
	var log bytes.Buffer
	o := AgentOptions{Region: "here", Log: slog.New(slog.NewTextHandler(&log, nil)), Backends: BackendsConfig{Static: []BackendConfig{{Address: "127.0.0.1:1"}}}}
	for i := range unchecked {
		o.Targets = append(o.Targets, Target{ID: EndpointID(i), Region: "here", Endpoint: "192.0.2.1"})
	}
	var said Status
	a := &checker{results: make(chan result), slots: make(chan struct{}, 1), load: new(loader), publish: func(s Status) { said = s }}
	a.fleet = &fleet{c: o.Backends, capacity: 1}
	check := Check{Type: checkTCP, Port: 1, Interval: time.Hour}.withDefaults()
	for i := range duties {
		a.duties = append(a.duties, Target{ID: EndpointID(unchecked + i), Region: "there", Endpoint: "192.0.2.2", Checks: []Check{check}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer a.running.Wait()
	defer cancel()
	a.adoptTargets(ctx, o, time.Now())
	a.o = o
	a.tell()
	if n := strings.Count(log.String(), "too many"); len(said.Endpoints) != maxEndpoints || len(a.subjects) != duties-over || n != over {
		t.Errorf("%d endpoints are reported, %d checked, %d left out with a word; want %d, %d, %d", len(said.Endpoints), len(a.subjects), n, maxEndpoints, duties-over, over)
	}
}

// A certificate is warned of once a day while it ends soon, and when it was renewed that is told.
func TestCertificateIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	a := &checker{o: AgentOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}, load: new(loader), fleet: new(fleet)}
	w := &watch{users: []*subject{{Target: Target{Name: "www"}}}}
	start := time.Now()
	day := 24 * time.Hour
	for i, c := range []struct {
		after, ends time.Duration
		want        string
	}{
		{0, 90 * day, ""},
		{1, 13 * day, "certificate ends soon"},
		{2 * time.Hour, 13 * day, ""},
		{1 + day, 13 * day, "certificate ends soon"},
		{1 + day + time.Minute, 12 * day, ""}, // at most one line an hour
		{1 + day + time.Hour, 12 * day, "certificate ends soon"},
		{3 * day, 100 * day, "certificate was renewed"},
		{5 * day, 100 * day, ""},
	} {
		log.Reset()
		a.noteCertificate(result{watch: w, outcome: outcome{ends: start.Add(c.ends)}, at: start.Add(c.after)})
		if got := log.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("step %d: %q, want %q", i, got, c.want)
		}
	}
}

func TestJitter(t *testing.T) {
	least, most := time.Hour, time.Duration(0)
	for range 1000 {
		j := jitter(time.Second)
		least, most = min(least, j), max(most, j)
	}
	if least < 900*time.Millisecond || most > 1100*time.Millisecond || most-least < 100*time.Millisecond {
		t.Errorf("intervals of 1s are %v to %v", least, most)
	}
}
