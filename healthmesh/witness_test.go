package healthmesh

import (
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
func witnessOf(c Check, now time.Time, endpoints ...string) (*checker, *Status) {
	a := &checker{o: AgentOptions{Region: "eu-west", Log: slog.New(slog.DiscardHandler)}, load: new(loader), fleet: new(fleet)}
	said := new(Status)
	a.publish = func(s Status) { *said = s }
	a.subjects = make(map[EndpointID]*subject)
	for i, e := range endpoints {
		region, address, _ := strings.Cut(e, " ")
		w := newWatch(c, Unknown, reason{}, now)
		s := &subject{Target: Target{ID: EndpointID(i), Region: region, addr: netip.MustParseAddr(address)}, watches: []*watch{w}}
		w.users, a.subjects[s.ID] = []*subject{s}, s
	}
	return a, said
}

// What fails for an agent that reaches no other region is unknown, not down, from the beginning of a cut to its end, and comes back as if
// nothing had been. What it saw fall while it reached others is down.
func TestWitnessThatIsCutOff(t *testing.T) {
	endpoints := []string{"eu-west 192.0.2.1", "us-east 192.0.2.2", "ap-south 192.0.2.3", "sa-east 2001:db8::1", "us-west 192.0.2.4"}
	for _, c := range []struct {
		name          string
		results, want []string // of the endpoints, the agent's own first: one each second, with . for none
	}{
		{"nothing of IPv4, in two cuts",
			[]string{"+++++++++++++++++", "++----++-----++++", "++----++-----++++", "+++++++++++++++++"},
			[]string{"uuuuuuuuuuuuuuuuu", "uuuu???uuu????uuu", "uuu????uu?????uuu", "uuuuuuuuuuuuuuuuu"}},
		{"one of two",
			[]string{"+++++++++++", "+++++++++++", "++---++++++", "+++++++++++"},
			[]string{"uuuuuuuuuuu", "uuuuuuuuuuu", "uuudddddduu", "uuuuuuuuuuu"}},
		{"one was down before, and stays so in the cut",
			[]string{"++++++++++++++", "++++++----++++", "++------------", "++++++++++++++"},
			[]string{"uuuuuuuuuuuuuu", "uuuuuuu????uuu", "uuuddddddddddd", "uuuuuuuuuuuuuu"}},
		{"one fell long before the cut, and is not held for that",
			[]string{"++++++++++++++++++++", "++++++++++++++----++", "++---+++++++++----++", "++++++++++++++++++++"},
			[]string{"uuuuuuuuuuuuuuuuuuuu", "uuuuuuuuuuuuuuuu???u", "uuudddddduuuuuu????u", "uuuuuuuuuuuuuuuuuuuu"}},
		{"one still fails after the cut",
			[]string{"++++++++++++", "++----++++++", "++----------", "++++++++++++"},
			[]string{"uuuuuuuuuuuu", "uuuu???uuuuu", "uuu????ddddd", "uuuuuuuuuuuu"}},
		{"one that is seldom checked, and was well before, is no sight",
			[]string{"++++++++++", "++----++++", "++----++++", "++++++++++", "+.....-..+"},
			[]string{"uuuuuuuuuu", "uuuu???uuu", "uuu????uuu", "uuuuuuuuuu", "uuuuuuuuuu"}},
		{"the only other is seldom checked, and each time it is reached a failure counts",
			[]string{"+++++++++++", "+....+....+", "++---------", "+++++++++++"},
			[]string{"uuuuuuuuuuu", "uuuuuuuuuuu", "uuu???????d", "uuuuuuuuuuu"}},
		{"it starts cut off",
			[]string{"++++++++", "-----+++", "-----+++", "++++++++"},
			[]string{"uuuuuuuu", "?????uuu", "?????uuu", "uuuuuuuu"}},
		{"one is down as it starts, and the only one of its family",
			[]string{"++++++++", "++++++++", "--------", "--------"},
			[]string{"uuuuuuuu", "uuuuuuuu", "dddddddd", "????????"}},
	} {
		now := time.Now()
		a, said := witnessOf(Check{Fall: 2, Rise: 2, HoldDown: 5 * time.Second}, now, endpoints[:len(c.results)]...)
		got := make([]string, len(c.results))
		for second := range len(c.results[0]) {
			now = now.Add(time.Second)
			for i := range got {
				if o, is := letters[rune(c.results[i][second])]; is {
					a.judge(result{a.subjects[EndpointID(i)].watches[0], o, now.Add(time.Duration(i) * time.Millisecond)})
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

// Whatever the phases and the intervals of checks, an agent that is cut off again and again finds nothing down that is well, if a fall takes
// three failures: a cut adds two at most, and between cuts each endpoint is reached.
func TestCutsTakeNothingDown(t *testing.T) {
	const most = 5000 // milliseconds from one check's begin to the end of the next, and between two cuts
	rapid.Check(t, func(t *rapid.T) {
		start := time.Now()
		ms := func(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }
		type cut struct{ from, to int }
		var cuts []cut
		end := 0
		for range rapid.IntRange(1, 4).Draw(t, "cuts") {
			from := end + most + rapid.IntRange(0, 2000).Draw(t, "calm")
			end = from + rapid.IntRange(1, 30000).Draw(t, "cut")
			cuts = append(cuts, cut{from, end})
		}
		endpoints := []string{"us-east 192.0.2.1", "us-east 192.0.2.2", "us-west 192.0.2.3", "ap-south 192.0.2.4"}[:rapid.IntRange(1, 4).Draw(t, "endpoints")]
		a, said := witnessOf(Check{Fall: 3, Rise: 1, HoldDown: time.Second}, start, endpoints...)
		var results []result
		for i := range endpoints {
			interval, timeout := rapid.IntRange(100, 2000).Draw(t, "interval"), rapid.IntRange(10, 2000).Draw(t, "timeout")
			for began := rapid.IntRange(0, 1000).Draw(t, "phase"); began < end+most; {
				lost := slices.ContainsFunc(cuts, func(c cut) bool { return c.from <= began && began < c.to })
				o, ended := letters['+'], began+1
				if lost {
					o, ended = letters['-'], began+timeout
				}
				results = append(results, result{a.subjects[EndpointID(i)].watches[0], o, ms(ended)})
				began = max(ended, began+interval*rapid.IntRange(90, 110).Draw(t, "jitter")/100)
			}
		}
		slices.SortStableFunc(results, func(r, s result) int { return r.at.Compare(s.at) })
		for _, r := range results {
			a.judge(r)
			for id, e := range said.Endpoints {
				if e.State == Down {
					t.Fatalf("%s is down at %v, for %v", endpoints[id], r.at.Sub(start), cuts)
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
