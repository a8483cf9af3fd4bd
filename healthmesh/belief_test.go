package healthmesh

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// A scene is what one node has heard, in seconds before now, for the rules of belief: "a 1, b 7 left, c -" is region a
// heard 1 s ago, b heard 7 s ago and leaving, c never heard. The lease is 5 s, and the node began 100 s ago.
func scene(t *testing.T, text string, now time.Time) *table {
	t.Helper()
	tab := newTable(5 * time.Second)
	for i, f := range fields(text) {
		if f[1] == "-" {
			continue
		}
		seconds, err := time.ParseDuration(f[1] + "s")
		if err != nil {
			t.Fatal(err)
		}
		r := report{
			Agent: fmt.Sprintf("%s-%d", f[0], i), Region: f[0], numbering: numbering{1, uint64(i + 1)}, Parts: 1,
			Capacity: 100, Leaving: slices.Contains(f, "left"), Endpoints: []reported{{ID: 7, State: Up}},
		}
		if slices.Contains(f, "down") {
			r.Endpoints[0].State = Down
		}
		if v := tab.apply(&part{report: r, at: now.Add(-seconds)}, anyone, now); v > repeated {
			t.Fatalf("%v: %v", f, v)
		}
	}
	return tab
}

// anyone takes every report for genuine.
func anyone(*part) bool { return true }

func fields(text string) (all [][]string) {
	for part := range strings.SplitSeq(text, ",") {
		if f := strings.Fields(part); len(f) > 0 {
			all = append(all, f)
		}
	}
	return all
}

// believed is what was believed before: "a up, b down, c up held".
func believed(text string, now time.Time) belief {
	b := belief{regions: map[string]*Region{}, start: now.Add(-100 * time.Second)}
	for _, f := range fields(text) {
		state := map[string]State{"up": Up, "down": Down, "unknown": Unknown}[f[1]]
		b.regions[f[0]] = &Region{State: state, Cause: "before", Held: slices.Contains(f, "held"), Heard: now.Add(-6 * time.Second)}
	}
	return b
}

// say puts a belief into words: "a up heard, b down left, c up held before".
func say(b belief) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(b.regions)) {
		r := b.regions[name]
		s := name + " " + r.State.String()
		if r.Held {
			s += " held"
		}
		all = append(all, s+" "+r.Cause)
	}
	if b.isolated {
		all = append(all, "isolated")
	}
	return strings.Join(all, ", ")
}

// Each row of the table of believe, and what lies at its edges.
func TestBelieve(t *testing.T) {
	const held = "up held " + causeHeld
	for _, c := range []struct{ name, heard, before, want string }{
		{"fresh", "a 1", "", "a up heard"},
		{"fresh, whatever was", "a 1", "a down", "a up heard"},
		{"one of two agents is fresh", "a 1, a 9", "a up", "a up heard"},
		{"one of two agents left", "a 1, a 0.5 left", "a up", "a up heard"},
		{"all left, the last of them last", "a 3 left, a 1 left", "a up", "a down left"},
		{"left, nobody else is heard", "a 1 left, b 9, c 9", "a up, b up, c up", "a down left, b " + held + ", c " + held + ", isolated"},
		{"silent and down: stays down", "a 9, b 1, c 1", "a down, b up, c up", "a down before, b up heard, c up heard"},
		{"silent, not for long", "a 4.9, b 1, c 1", "a up, b up, c up", "a up heard, b up heard, c up heard"},
		{"silent for the lease, most are heard", "a 5, b 1, c 1", "a up, b up, c up", "a down silent for 5s, b up heard, c up heard"},
		{"silent since long, most are heard", "a 60, b 1, c 1", "a up, b up, c up", "a down silent for 5s, b up heard, c up heard"},
		{"silent and unknown, most are heard", "a 60, b 1", "a unknown, b up", "a down silent for 5s, b up heard"},
		{"one of two, the other is heard", "a 6, b 1", "a up, b up", "a down silent for 5s, b up heard"},
		{"one of two, the other until then", "a 6, b 3.5", "a up, b up", "a down silent for 5s, b up heard"},
		{"one of two, the other not much longer", "a 6, b 3.6", "a up, b up", "a " + held + ", b up heard, isolated"},
		{"the only region", "a 6", "a up", "a " + held + ", isolated"},
		{"the only region leaves", "a 1 left", "a up", "a down left"},
		{"the last of two that is not down", "a 60, b 6", "a down, b up", "a down before, b " + held + ", isolated"},
		{"both of two at once", "a 6, b 6", "a up, b up", "a " + held + ", b " + held + ", isolated"},
		{"half of the others are heard", "a 6, b 6, c 1", "a up, b up, c up", "a " + held + ", b " + held + ", c up heard, isolated"},
		{"two of five fall together", "a 6, b 6, c 1, d 1, e 1", "a up, b up, c up, d up, e up",
			"a down silent for 5s, b down silent for 5s, c up heard, d up heard, e up heard"},
		{"three of five fall together", "a 6, b 6, c 6, d 1, e 1", "a up, b up, c up, d up, e up",
			"a " + held + ", b " + held + ", c " + held + ", d up heard, e up heard, isolated"},
		{"a region that is down says nothing of isolation", "a 6, b 9, c 1", "a up, b down, c up", "a down silent for 5s, b down before, c up heard"},
		{"all silent", "a 6, b 7, c 8", "a up, b up, c up", "a " + held + ", b " + held + ", c " + held + ", isolated"},
		{"from disk only, others are heard", "b 1, c 1", "a up held, b up, c up", "a down silent for 5s, b up heard, c up heard"},
		{"never heard of", "", "", ""},
	} {
		now := time.Now()
		if got := say(believe(scene(t, c.heard, now), believed(c.before, now), nil, 5*time.Second, now)); got != c.want {
			t.Errorf("%s: %s, before %s:\n got %s\nwant %s", c.name, c.heard, c.before, got, c.want)
		}
	}
}

// A node that was down while regions fell one after the other, and has that they did from others, comes to believe what those do that were there.
func TestLateNodesBelieveAlike(t *testing.T) {
	const lease = 5 * time.Second
	now := time.Now()
	late := believed("a up held, b up held, c up held", now)
	tab := scene(t, "a 30, b 10, c 1", now)
	for range 8 {
		late = believe(tab, late, nil, lease, now)
		now = now.Add(time.Second)
		tab.apply(&part{report: report{Agent: "c-2", Region: "c", numbering: numbering{1, uint64(now.UnixNano())}, Parts: 1}, at: now}, anyone, now)
	}
	if got := say(late); got != "a down silent for 5s, b down silent for 5s, c up heard" {
		t.Error(got)
	}
}

// A node that was cut off stays isolated for as long as it hears nobody, and when it hears others again it takes none of them
// for dead that it could not have heard.
func TestIsolationEnds(t *testing.T) {
	begin := time.Now()
	tab := scene(t, "a 0, b 0, c 0", begin)
	b := believed("a up, b up, c up", begin)
	b = believe(tab, b, nil, 5*time.Second, begin)
	for at := time.Duration(0); at < 60*time.Second; at += 250 * time.Millisecond {
		b = believe(tab, b, nil, 5*time.Second, begin.Add(at))
		if isolated := at >= 5*time.Second; b.isolated != isolated {
			t.Fatalf("after %v: isolated %v: %s", at, b.isolated, say(b))
		}
		for name, r := range b.regions {
			if r.State != Up {
				t.Fatalf("after %v %s is %v", at, name, r.State)
			}
		}
	}
	hear := func(region string, n uint64, at time.Time) {
		p := &part{report: report{Agent: map[string]string{"a": "a-0", "b": "b-1", "c": "c-2"}[region], Region: region, numbering: numbering{2, n}, Parts: 1}, at: at}
		if v := tab.apply(p, anyone, at); v > repeated {
			t.Fatalf("%s: %v", region, v)
		}
	}
	healed := begin.Add(60 * time.Second)
	for at := time.Duration(0); at < 4*time.Second; at += 250 * time.Millisecond {
		now := healed.Add(at)
		if at%time.Second == 0 {
			hear("a", uint64(at)+1, now)
			hear("b", uint64(at)+1, now)
		}
		if b = believe(tab, b, nil, 5*time.Second, now); b.isolated || b.regions["c"].State != Up || !b.regions["c"].Held {
			t.Fatalf("%v after the cut healed, c not yet heard: %s", at, say(b))
		}
	}
	for at := 4 * time.Second; at < 6*time.Second; at += 250 * time.Millisecond {
		hear("a", uint64(at)+1, healed.Add(at))
		hear("b", uint64(at)+1, healed.Add(at))
		b = believe(tab, b, nil, 5*time.Second, healed.Add(at))
	}
	if got := say(b); got != "a up heard, b up heard, c down silent for 5s" {
		t.Errorf("6 s after the cut healed: %s", got)
	}
}

// What is believed of load has a bound, and ends with the evidence.
func TestLoadIsBounded(t *testing.T) {
	now := time.Now()
	for _, c := range []struct{ capacity, load, want float64 }{
		{100, 0, 0}, {100, 80, 80}, {100, 1000, 1000}, {100, 1001, 1000}, {100, 1e300, 1000}, {0, 50, 50},
	} {
		tab := newTable(5 * time.Second)
		r := report{Agent: "x", Region: "a", numbering: numbering{1, 1}, Parts: 1, Capacity: c.capacity, Load: c.load, HasLoad: true}
		if v := tab.apply(&part{report: r, at: now}, anyone, now); v > repeated {
			t.Fatal(v)
		}
		b := believe(tab, belief{start: now}, nil, 5*time.Second, now)
		if got := b.regions["a"]; got.Load != c.want || !got.HasLoad {
			t.Errorf("capacity %v, load %v: %v, want %v", c.capacity, c.load, got.Load, c.want)
		}
		s := split(report{Agent: "x", Region: "a"}, Status{Capacity: c.capacity, Load: c.load, HasLoad: true}, now)
		if s[0].Load != c.want {
			t.Errorf("capacity %v, load %v: reported as %v, want %v", c.capacity, c.load, s[0].Load, c.want)
		}
		r.Sequence, r.Leaving = 2, true
		tab.apply(&part{report: r, at: now}, anyone, now)
		if got := believe(tab, b, nil, 5*time.Second, now).regions["a"]; got.State != Down || got.HasLoad || got.Load != 0 {
			t.Errorf("a region that left has load: %+v", got)
		}
	}
}

// All that is counted in time has the monotonic clock's reading, which no change of the wall clock moves.
func TestTimesAreMonotonic(t *testing.T) {
	now := time.Now()
	monotonic := func(what string, at time.Time) {
		t.Helper()
		if !strings.Contains(at.String(), "m=") {
			t.Errorf("%s is by the wall clock: %v", what, at)
		}
	}
	r := report{Agent: "x", Region: "a", numbering: numbering{1, 1}, Parts: 1}
	p := &part{report: r, raw: r.encode(nil), at: now}
	for what, read := range map[string]func() (message, error){
		"packet":    func() (message, error) { return decodeMessage(reportMessage(p, now), now) },
		"push/pull": func() (message, error) { return decodeState(encodeState("d", []*part{p}, nil, now), now) },
	} {
		m, err := read()
		if err != nil || len(m.parts) != 1 {
			t.Fatalf("%s: %+v, %v", what, m, err)
		}
		monotonic(what, m.parts[0].at)
		tab := newTable(5 * time.Second)
		tab.apply(m.parts[0], anyone, now)
		monotonic("heard by "+what, believe(tab, belief{start: now}, nil, 5*time.Second, now).regions["a"].Heard)
	}
	monotonic("cut off", believe(newTable(5*time.Second), believed("a up", now), nil, 5*time.Second, now).cutOff)
	m := memory{Incarnation: 1, Regions: map[string]savedRegion{"a": {State: Up}}}
	o := Options{Name: "d", Role: roleDirector, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	c := newCore(o, m)
	monotonic("start", c.belief.start)
	// A Heard from disk would be of another life's clock.
	if heard := c.belief.regions["a"].Heard; !heard.IsZero() {
		t.Errorf("heard before the start, %v", heard)
	}
}

// A fault is dated alike by a director that heard the last report in time, by one that got it after the fall, and by one that was down meanwhile:
// what the guards take out first follows from it.
func TestFaultsAreDatedAlike(t *testing.T) {
	const lease = 5 * time.Second
	start := time.Now()
	say := func(seq uint64, elapsed time.Duration) *part {
		return &part{report: report{Agent: "x", Region: "a", numbering: numbering{1000, seq}, Parts: 1, Elapsed: uint64(elapsed.Milliseconds())}, at: start.Add(elapsed)}
	}
	other := func(tab *table, now time.Time) { // another region that is heard, so that silence counts
		tab.apply(&part{report: report{Agent: "y", Region: "b", numbering: numbering{1, uint64(now.UnixNano())}, Parts: 1}, at: now}, anyone, now)
	}
	dated := func(first, late *part, base belief) Stamp {
		tab := newTable(5 * time.Second)
		for _, p := range []*part{first, late} {
			if p != nil {
				tab.apply(p, anyone, start.Add(time.Minute))
			}
			other(tab, start.Add(time.Minute))
			base = believe(tab, base, nil, lease, start.Add(time.Minute))
		}
		if r := base.regions["a"]; r.State != Down {
			t.Fatalf("%+v", r)
		}
		return base.regions["a"].Fault
	}
	up := belief{regions: map[string]*Region{"a": {State: Up}}, start: start}
	const want = Stamp(1000 + 2000)
	for what, got := range map[string]Stamp{
		"in time":           dated(say(2, 2*time.Second), nil, up),
		"after the fall":    dated(say(1, time.Second), say(2, 2*time.Second), up),
		"after a restart":   dated(nil, say(2, 2*time.Second), belief{regions: map[string]*Region{"a": {State: Down, Held: true}}, start: start}),
		"from disk, unsaid": dated(nil, nil, belief{regions: map[string]*Region{"a": {State: Down, Held: true, Fault: want}}, start: start}),
	} {
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
}
