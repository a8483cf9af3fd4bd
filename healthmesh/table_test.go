package healthmesh

import (
	"fmt"
	"testing"
	"time"
)

// Reports are applied by their numbers alone, whatever order they come in.
func TestTableTakesTheNewest(t *testing.T) {
	now := time.Now()
	tab := newTable(5 * time.Second)
	apply := func(inc, seq uint64, region string, ago time.Duration) verdict {
		return tab.apply(&part{report: report{Agent: "x", Region: region, numbering: numbering{inc, seq}, Parts: 1}, at: now.Add(-ago)}, anyone, now)
	}
	for i, c := range []struct {
		inc, seq uint64
		region   string
		ago      time.Duration
		want     verdict
	}{
		{5, 10, "a", 0, applied},
		{5, 10, "a", 0, known},
		{5, 9, "a", 0, known},
		{4, 99, "a", 0, earlier},
		{5, 11, "a", time.Minute, applied},
		{6, 1, "b", 0, applied},   // of another region: another agent
		{5, 12, "a", 0, applied},  // which did not take this one's place
		{6, 1, "a", 0, applied},   // another life
		{5, 999, "a", 0, earlier}, // a paused one that woke up
		{7, 1, "a", 2 * forgetAfter, known},
	} {
		if got := apply(c.inc, c.seq, c.region, c.ago); got != c.want && !(got == repeated && c.want == applied) {
			t.Errorf("%d: (%d, %d): %v, want %v", i, c.inc, c.seq, got, c.want)
		}
	}
	if a := tab.agents[agentKey{"a", "x"}]; len(tab.agents) != 2 || a.newest != (numbering{6, 1}) || tab.parts != 2 {
		t.Errorf("%+v, %d parts", tab.agents, tab.parts)
	}
}

// The number of an agent outlives what it said, and restarts: what comes again is old.
func TestNumbersAreRemembered(t *testing.T) {
	now := time.Now()
	tab := newTable(5 * time.Second)
	p := &part{report: report{Agent: "x", Region: "a", numbering: numbering{5, 10}, Parts: 1}, at: now}
	tab.apply(p, anyone, now)
	tab.forget(now.Add(2 * forgetAfter))
	replay := func(tab *table) verdict {
		again := *p
		again.at = now.Add(2 * forgetAfter)
		return tab.apply(&again, anyone, again.at)
	}
	if v := replay(tab); v != known || len(tab.all()) != 0 {
		t.Errorf("the replay of a report that is forgotten: %v", v)
	}
	after := newTable(5 * time.Second)
	after.remember(tab.numbers(), now)
	if v := replay(after); v != known {
		t.Errorf("the replay after a restart: %v", v)
	}
	// That it was the last one and is old is evidence of its silence.
	old := *p
	old.at = now.Add(-time.Minute)
	if v := after.apply(&old, anyone, now); v != applied || !after.agents[agentKey{"a", "x"}].at.Equal(old.at) {
		t.Errorf("the last report, of a minute ago, after a restart: %v", v)
	}
	// What the agent said later and before the restart is as old as it says, or a dead agent would be taken for alive.
	p.Sequence, p.at = p.Sequence+1, now.Add(-time.Minute)
	if v := after.apply(p, anyone, now); v > repeated || !p.at.Equal(now.Add(-time.Minute)) {
		t.Errorf("the next report after a restart: %v, heard %v ago", v, now.Sub(p.at))
	}
}

// After a restart the last word of one agent of a region, which died or left long ago, is not its others' silence: of these the node
// has only numbers, until their next reports come, and what peers tell of the reports before is known.
func TestWhoIsRememberedIsAwaited(t *testing.T) {
	lease, start := 5*time.Second, time.Now()
	for _, leaving := range []bool{false, true} {
		before := newTable(lease)
		lives := &part{report: report{Agent: "x", Region: "a", numbering: numbering{5, 10}, Parts: 1}, at: start}
		dead := &part{report: report{Agent: "y", Region: "a", numbering: numbering{5, 7}, Parts: 1, Leaving: leaving}, at: start.Add(-time.Minute)}
		other := &part{report: report{Agent: "z", Region: "b", numbering: numbering{5, 1}, Parts: 1}, at: start}
		before.apply(dead, anyone, start)
		before.apply(lives, anyone, start)

		after := newTable(lease)
		after.remember(before.numbers(), start)
		base := belief{regions: map[string]*Region{"a": {State: Up, Held: true}}, start: start}
		at := func(d time.Duration) string {
			now := start.Add(d)
			again, still, beat := *lives, *dead, *other
			beat.Sequence, beat.at = uint64(d), now
			for _, p := range []*part{&again, &still, &beat} {
				after.apply(p, anyone, now)
			}
			base = believe(after, base, nil, lease, now)
			return fmt.Sprint(base.regions["a"].State, " ", base.regions["a"].Held)
		}
		if got := at(time.Second); got != "up true" {
			t.Errorf("leaving %v: while the other is awaited the region is %s", leaving, got)
		}
		if got := at(lease + time.Millisecond); got != "down false" {
			t.Errorf("leaving %v: when the other was silent for a lease the region is %s", leaving, got)
		}
	}
}

// A report that is not genuine changes nothing, and an age cannot make a newer report older than the one before.
func TestTableIsNotFooled(t *testing.T) {
	now := time.Now()
	tab := newTable(5 * time.Second)
	make := func(seq uint64, ago time.Duration) *part {
		return &part{report: report{Agent: "x", Region: "a", numbering: numbering{5, seq}, Parts: 1}, at: now.Add(-ago)}
	}
	nobody := func(*part) bool { return false }
	if v := tab.apply(make(1, 0), nobody, now); v != forged || len(tab.agents) != 0 {
		t.Errorf("forged, unknown before: %v, %+v", v, tab.agents)
	}
	tab.apply(make(2, 0), anyone, now)
	if v := tab.apply(make(3, 0), nobody, now); v != forged || tab.agents[agentKey{"a", "x"}].newest.Sequence != 2 {
		t.Errorf("forged: %v", v)
	}
	tab.apply(make(3, time.Minute), anyone, now)
	if at := tab.agents[agentKey{"a", "x"}].heard().at; !at.Equal(now) {
		t.Errorf("with a false age: heard %v ago", now.Sub(at))
	}
	// Nor can ages that are false every time make it silent: its own clock goes on, and is signed.
	for seq := range uint64(100) {
		p := make(4+seq, time.Hour/2)
		p.Elapsed, now = 1000*(1+seq), now.Add(time.Second)
		if v := tab.apply(p, anyone, now); v > repeated {
			t.Fatal(v)
		}
		if at := tab.agents[agentKey{"a", "x"}].heard().at; !at.Equal(now) {
			t.Fatalf("after %d s of false ages: heard %v ago", seq+1, now.Sub(at))
		}
	}
}

func TestTableIsBounded(t *testing.T) {
	now := time.Now()
	tab := newTable(5 * time.Second)
	apply := func(region string, agent int, index, parts uint8, at time.Time) verdict {
		r := report{Agent: fmt.Sprint("agent-", agent), Region: region, numbering: numbering{1, 1}, Part: index, Parts: parts}
		return tab.apply(&part{report: r, at: at}, anyone, at)
	}
	refusals := 0
	for i := range maxReports/maxParts + 10 {
		for index := range uint8(maxParts) {
			for _, region := range []string{"a", "b"} {
				if apply(region, i, index, maxParts, now) == refused {
					refusals++
				}
			}
		}
	}
	if tab.parts > maxReports || len(tab.all()) > maxReports || refusals == 0 {
		t.Errorf("%d parts, %d listed, %d refused", tab.parts, len(tab.all()), refusals)
	}
	later := now.Add(2 * numberAge)
	tab.forget(later)
	if tab.parts != 0 || len(tab.all()) != 0 {
		t.Errorf("%d parts are never forgotten", tab.parts)
	}
	for i := range maxAgents {
		apply("c", 1000+i, 0, 1, later)
		apply("d", 1000+i, 0, 1, later)
	}
	if len(tab.agents) != maxAgents {
		t.Errorf("%d agents are remembered, at most %d should be", len(tab.agents), maxAgents)
	}
}

// However much one region's agents say, and as however many, the others' are heard.
func TestNoRegionFillsTheTable(t *testing.T) {
	now := time.Now()
	for _, parts := range []uint8{1, maxParts} {
		tab := newTable(5 * time.Second)
		apply := func(region string, agent int) verdict {
			r := report{Agent: fmt.Sprint("agent-", agent), Region: region, numbering: numbering{1, 1}, Parts: parts}
			return tab.apply(&part{report: r, at: now}, anyone, now)
		}
		for i := range maxAgents {
			apply("a", i)
		}
		if v := apply("b", 1); v != applied {
			t.Errorf("beside a region that says all that it can in reports of %d parts: %v", parts, v)
		}
	}
}
