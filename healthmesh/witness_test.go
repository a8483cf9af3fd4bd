package healthmesh

import (
	"bytes"
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// witnessOf is the checker of an agent in eu-west, and what it last said: its endpoints, "us-east 192.0.2.2", have one check each, and are
// numbered as they come.
func witnessOf(c Check, endpoints ...string) (*checker, *Status) {
	a := &checker{o: AgentOptions{Region: "eu-west", Log: slog.New(slog.DiscardHandler)}, load: new(loader), fleet: new(fleet)}
	said := new(Status)
	a.publish = func(s Status) { *said = s }
	a.subjects = make(map[EndpointID]*subject)
	a.watches = make(map[string]*watch)
	for i, e := range endpoints {
		region, address, _ := strings.Cut(e, " ")
		w := newWatch(c)
		s := &subject{Target: Target{ID: EndpointID(i), Region: region, addr: netip.MustParseAddr(address)}, watches: []*watch{w}}
		w.users, a.subjects[s.ID], a.watches[e] = []*subject{s}, s, w
	}
	a.recount(a.o.Region)
	return a, said
}

// What fails for an agent that reaches no other region is unknown, not down, from the beginning of a cut to its end, and comes back as if
// nothing had been. What it saw fall while it reached others is down, and held down when it comes back.
func TestWitnessThatIsCutOff(t *testing.T) {
	endpoints := []string{"eu-west 192.0.2.1", "us-east 192.0.2.2", "ap-south 192.0.2.3", "sa-east 2001:db8::1", "us-west 192.0.2.4"}
	for _, c := range []struct {
		name          string
		results, want []string // of the endpoints, the agent's own first: one each second, with . for none
	}{
		{"nothing of IPv4, in two cuts",
			[]string{"+++++++++++++++++", "++----++-----++++", "++----++-----++++", "+++++++++++++++++"},
			[]string{"uuuuuuuuuuuuuuuuu", "uuuu???uuu????uuu", "uuuu???uuu????uuu", "uuuuuuuuuuuuuuuuu"}},
		{"one of two",
			[]string{"+++++++++++", "+++++++++++", "++---++++++", "+++++++++++"},
			[]string{"uuuuuuuuuuu", "uuuuuuuuuuu", "uuudddddduu", "uuuuuuuuuuu"}},
		{"one was down before the cut, and is after it",
			[]string{"++++++++++++++", "++++++----++++", "++------------", "++++++++++++++"},
			[]string{"uuuuuuuuuuuuuu", "uuuuuuuu???uuu", "uuudddd????ddd", "uuuuuuuuuuuuuu"}},
		{"one was down before the cut, and is well after it, for as long as it is held down",
			[]string{"+++++++++++++", "++++++--+++++", "++------+++++", "+++++++++++++"},
			[]string{"uuuuuuuuuuuuu", "uuuuuuuuuuuuu", "uuudddd???uuu", "uuuuuuuuuuuuu"}},
		{"one fell long before the cut, and is not held for that",
			[]string{"+++++++++++++++++++", "++---+++++++++---++", "++++++++++++++---++", "+++++++++++++++++++"},
			[]string{"uuuuuuuuuuuuuuuuuuu", "uuudddddduuuuuuu??u", "uuuuuuuuuuuuuuuu??u", "uuuuuuuuuuuuuuuuuuu"}},
		{"one still fails after the cut",
			[]string{"++++++++++++", "++----++++++", "++----------", "++++++++++++"},
			[]string{"uuuuuuuuuuuu", "uuuu???uuuuu", "uuuu???ddddd", "uuuuuuuuuuuu"}},
		{"one that is seldom checked, and was well before, is no sight",
			[]string{"++++++++++++", "++-------+++", "++-------+++", "++++++++++++", "+.....-....+"},
			[]string{"uuuuuuuuuuuu", "uuuu??????uu", "uuuu??????uu", "uuuuuuuuuuuu", "uuuuuuuuuuuu"}},
		{"the only other is seldom checked, and each time it is reached a failure counts",
			[]string{"+++++++++++", "+....+....+", "++---------", "+++++++++++"},
			[]string{"uuuuuuuuuuu", "uuuuuuuuuuu", "uuuu??????d", "uuuuuuuuuuu"}},
		{"it starts cut off",
			[]string{"++++++++", "-----+++", "-----+++", "++++++++"},
			[]string{"uuuuuuuu", "?????uuu", "?????uuu", "uuuuuuuu"}},
		{"one is down as it starts, and the only one of its family",
			[]string{"++++++++", "++++++++", "--------", "--------"},
			[]string{"uuuuuuuu", "uuuuuuuu", "?ddddddd", "????????"}},
	} {
		now := time.Now()
		a, said := witnessOf(Check{Fall: 2, Rise: 2, HoldDown: 5 * time.Second}, endpoints[:len(c.results)]...)
		got := make([]string, len(c.results))
		for second := range len(c.results[0]) {
			now = now.Add(time.Second)
			for i := range got {
				if o, is := letters[rune(c.results[i][second])]; is {
					at := now.Add(time.Duration(i) * time.Millisecond)
					s := a.subjects[EndpointID(i)]
					a.judge(result{s.watches[0], o, at, a.reached[s.family()].get(), at})
				}
			}
			for i := range got {
				got[i] += string("?ud"[said.Endpoints[EndpointID(i)].State])
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q gives\n%q, want\n%q", c.name, c.results, got, c.want)
		}
	}
}

// A check that an endpoint of the agent's own region shares counts whatever is reached elsewhere.
func TestSharedCheckIsNotAbroad(t *testing.T) {
	for _, own := range []string{"eu-west", "ap-south"} {
		a, said := witnessOf(Check{Fall: 2, Rise: 2}, "us-east 192.0.2.1", own+" 192.0.2.1")
		w := a.subjects[0].watches[0]
		w.users, a.subjects[1].watches, a.watches = append(w.users, a.subjects[1]), []*watch{w}, map[string]*watch{"shared": w}
		a.recount(a.o.Region)
		for range 2 {
			a.judge(result{watch: w, outcome: letters['-'], at: time.Now()})
		}
		want := Unknown
		if own == "eu-west" {
			want = Down
		}
		for id, e := range said.Endpoints {
			if e.State != want {
				t.Errorf("shared by us-east and %s: endpoint %d is in state %d, want %d", own, id, e.State, want)
			}
		}
	}
}

// That an agent reaches nothing outside is told once for a family, not for each endpoint, with the first failure; and that it does again. A
// flap of the only endpoint tells it once a minute.
func TestLossOfSightIsTold(t *testing.T) {
	var log bytes.Buffer
	a, said := witnessOf(Check{Fall: 2, Rise: 2}, "us-east 192.0.2.1", "us-west 192.0.2.2", "ap-south 2001:db8::1")
	a.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	now := time.Now()
	step := func(results string) {
		now = now.Add(time.Second)
		for i, c := range results {
			s := a.subjects[EndpointID(i)]
			at := now.Add(time.Duration(i) * time.Millisecond)
			a.judge(result{s.watches[0], letters[c], at, a.reached[s.family()].get(), at})
		}
	}
	for range 3 {
		step("+++")
	}
	log.Reset()
	for range 20 {
		for _, results := range []string{"--+", "--+", "--+", "+++", "+++"} {
			step(results)
		}
	}
	lost, found := strings.Count(log.String(), "no endpoint of other regions is reached"), strings.Count(log.String(), "are reached again")
	if lines := strings.Count(log.String(), "\n"); lost != 2 || found != 2 || lines != 4 || !strings.Contains(log.String(), `family=IPv4 endpoint="" text="connection refused"`) {
		t.Errorf("in 100 s:\n%s", log.String())
	}
	step("--+")
	step("--+")
	step("--+")
	if e := said.Endpoints[0]; e.State != Unknown || e.Reason != "no endpoint of other regions is reached" {
		t.Errorf("%+v", e)
	}
}

// A way is how checks of one endpoint go, in milliseconds.
type way struct{ interval, timeout, trip int }

func drawWay(t *rapid.T) way {
	draw := func(from, to int, what string) int { return rapid.IntRange(from, to).Draw(t, what) }
	return way{draw(100, 2000, "interval"), draw(300, 2000, "timeout"), draw(1, 300, "trip")}
}

// An event is a step of a run of checks.
type event struct {
	at int // milliseconds
	do func()
}

// checksOf are the checks of an endpoint from a time to another, each lost or not, as events.
func (w way) checksOf(t *rapid.T, a *checker, id EndpointID, begin time.Time, from, to int, lost func(from, to int) bool) (events []event) {
	ms := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Millisecond) }
	watch := a.subjects[id].watches[0]
	watch.counted = ms(from)
	for began := from + rapid.IntRange(0, 1000).Draw(t, "phase"); began < to; {
		o, over := letters['+'], began+w.trip
		if lost(began, over) {
			o, over = letters['-'], began+w.timeout
		}
		r := &result{watch: watch, outcome: o, began: ms(began), at: ms(over)}
		events = append(events, event{began, func() { r.reached = a.reached[familyIPv4].get() }}, event{over, func() { a.judge(*r) }})
		began = max(over, began+w.interval*rapid.IntRange(90, 110).Draw(t, "jitter")/100)
	}
	return events
}

func byTime(events []event) []event {
	slices.SortStableFunc(events, func(e, f event) int { return cmp.Compare(e.at, f.at) })
	return events
}

var abroad = []string{"us-east 192.0.2.1", "us-east 192.0.2.2", "us-west 192.0.2.3", "ap-south 192.0.2.4"}

// Whatever the phases and the intervals of checks, how long they take, and when they start, an agent that is cut off again and again finds
// nothing down that is well.
func TestCutsTakeNothingDown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const calm = 5000 // milliseconds between two cuts, in which every endpoint is reached
		draw := func(from, to int, what string) int { return rapid.IntRange(from, to).Draw(t, what) }
		type cut struct{ from, to int }
		var cuts []cut
		end := 0
		for range draw(1, 4, "cuts") {
			from := end + calm + draw(0, 2000, "calm")
			end = from + draw(1, 30000, "cut")
			cuts = append(cuts, cut{from, end})
		}
		lost := func(from, to int) bool {
			return slices.ContainsFunc(cuts, func(c cut) bool { return c.from < to && from < c.to })
		}
		endpoints := abroad[:draw(1, len(abroad), "endpoints")]
		a, said := witnessOf(Check{Fall: draw(1, 3, "fall"), Rise: 1, HoldDown: time.Second}, endpoints...)
		begin := time.Now()
		var events []event
		for i := range endpoints {
			start := draw(0, 1, "late") * draw(0, end, "start")
			events = append(events, drawWay(t).checksOf(t, a, EndpointID(i), begin, start, end+calm, lost)...)
		}
		for _, e := range byTime(events) {
			e.do()
			for id, now := range said.Endpoints {
				if now.State == Down {
					t.Fatalf("%s is down at %d, for %v", endpoints[id], e.at, cuts)
				}
			}
		}
		for id, e := range said.Endpoints {
			if e.State != Up {
				t.Fatalf("%s is not up again after %v", endpoints[id], cuts)
			}
		}
	})
}

// Whatever the phases and the intervals of checks, and how long they take, one of several endpoints that fails for good is found down, and
// stays so: each failure that counts takes a check of another, from its begin to its end, and one of its own.
func TestOneThatFailsIsDownForGood(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		endpoints := abroad[:rapid.IntRange(2, len(abroad)).Draw(t, "endpoints")]
		check := Check{Fall: rapid.IntRange(1, 3).Draw(t, "fall"), Rise: 1, HoldDown: time.Second}
		a, said := witnessOf(check, endpoints...)
		const fault, calm = 5000, 20000
		ways := make([]way, len(endpoints))
		round := 0 // of the slowest other
		for i := range ways {
			if ways[i] = drawWay(t); i > 0 {
				round = max(round, ways[i].interval*11/10+ways[i].trip)
			}
		}
		by := fault + (max(check.Fall, fallAbroad)+1)*(2*round+ways[0].interval*11/10+2*ways[0].timeout)
		begin := time.Now()
		var events []event
		for i, w := range ways {
			events = append(events, w.checksOf(t, a, EndpointID(i), begin, 0, by+calm, func(_, to int) bool { return i == 0 && to > fault })...)
		}
		for _, e := range byTime(events) {
			if e.do(); e.at > by && said.Endpoints[0].State != Down {
				t.Fatalf("at %d, of a fault at %d that was to be found by %d, it is in state %d", e.at, fault, by, said.Endpoints[0].State)
			}
			for i := range endpoints[1:] {
				if said.Endpoints[EndpointID(i+1)].State == Down {
					t.Fatalf("%s is down at %d", endpoints[i+1], e.at)
				}
			}
		}
	})
}
