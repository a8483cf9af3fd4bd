package healthmesh

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func coreOf(t *testing.T, o Options) *core {
	t.Helper()
	o.Dir, o.Log = t.TempDir(), slog.New(slog.DiscardHandler)
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	return newCore(o, memory{Incarnation: 1})
}

func nodeOf(name, role, region string, host byte) memberlist.Node {
	return memberlist.Node{Name: name, Addr: net.IPv4(192, 0, 2, host), Port: 7946, Meta: encodeMeta(role, region, "")}
}

// In a mesh whose beats fill all packets, what changed goes first, and an order before it.
func TestChangesGoBeforeBeats(t *testing.T) {
	c := coreOf(t, Options{Name: "d", Role: roleDirector})
	now := time.Now()
	partOf := func(agent string, endpoints int) *part {
		r := report{Agent: agent, Region: "a", numbering: numbering{1, 1}, Parts: 1}
		for i := range endpoints {
			r.Endpoints = append(r.Endpoints, reported{ID: EndpointID(i)})
		}
		return c.signed(r, now)
	}
	c.queueReport(partOf("changed", 1), applied) // small: a queue sends large messages first
	for i := range 1000 {
		c.queueReport(partOf(fmt.Sprint("a-", i), 40), repeated)
	}
	c.gossip.orderQueue.QueueBroadcast(&broadcast{name: "order", b: ordersMessage([]byte("order"))})
	packet := c.gossip.GetBroadcasts(3, 1400)
	if len(packet) != 3 || packet[0][0] != kindOrder {
		t.Fatalf("a packet has %d messages, an order, a change and a beat are wanted", len(packet))
	}
	if m, err := decodeMessage(packet[1], now); err != nil || len(m.parts) != 1 || m.parts[0].Agent != "changed" {
		t.Errorf("behind the order comes %+v, %v", m.parts, err)
	}
}

// A director that misses an agent asks the agent and another director; for one that nobody hears it asks no director.
func TestMissedAgentIsAskedFor(t *testing.T) {
	c := coreOf(t, Options{Name: "d1", Role: roleDirector})
	now := time.Now()
	lease := c.o.Config.Lease
	c.nodes = []memberlist.Node{nodeOf("a-1", roleAgent, "a", 1), nodeOf("d1", roleDirector, "", 2), nodeOf("d2", roleDirector, "", 3)}
	c.table.apply(&part{report: report{Agent: "a-1", Region: "a", numbering: numbering{1, 1}, Parts: 1}, at: now}, anyone, now)
	const agent, director = "192.0.2.1:7946", "192.0.2.3:7946"
	for _, step := range []struct {
		silent time.Duration
		want   []string
	}{
		{c.o.Config.Beat, nil},
		{2*c.o.Config.Beat + 1, []string{agent, director}},
		{missLeases * lease, []string{agent}},
	} {
		c.fetcher = newFetcher(c.o.Config.Beat) // nobody is busy
		c.fetch(now.Add(step.silent))
		close(c.fetcher.wanted)
		var got []string
		for addr := range c.fetcher.wanted {
			got = append(got, addr)
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("silent for %v: asks %v, want %v", step.silent, got, step.want)
		}
	}
}

// Duties are dealt out among members of which a report is known, be it old: agents of a large mesh hear each other seldom, and who
// reports nothing that is genuine must not take a duty.
func TestDutiesAreDealtAmongMembers(t *testing.T) {
	c := coreOf(t, Options{Name: "a-1", Role: roleAgent, Region: "a", Plan: planOf("a b c d")})
	now := time.Now()
	c.nodes = []memberlist.Node{nodeOf("a-1", roleAgent, "a", 1), nodeOf("b-1", roleAgent, "b", 2), nodeOf("c-1", roleAgent, "c", 3), nodeOf("d1", roleDirector, "", 4)}
	for _, name := range []string{"b", "d"} { // c is silent, d is no member
		p := &part{report: report{Agent: name + "-1", Region: name, numbering: numbering{1, 1}, Parts: 1}, at: now.Add(-10 * c.o.Config.Lease)}
		c.table.apply(p, anyone, now)
	}
	c.redeal = true
	c.deal()
	if want := []agentKey{{"a", "a-1"}, {"b", "b-1"}}; !slices.Equal(c.witnesses, want) {
		t.Errorf("duties are dealt out among %v, want %v", c.witnesses, want)
	}
}

// A report that came and waits counts where silence is judged.
func TestWhoseReportWaitsIsNotSilent(t *testing.T) {
	c := coreOf(t, Options{Name: "d", Role: roleDirector})
	now := time.Now()
	say := func(region string, sequence uint64, at time.Time) *part {
		r := report{Agent: "agent", Region: region, numbering: numbering{1, sequence}, Parts: 1}
		return &part{report: r, raw: r.encode(nil), at: at}
	}
	for _, region := range []string{"a", "b"} {
		c.table.apply(say(region, 1, now.Add(-c.o.Config.Lease)), anyone, now)
	}
	c.evaluate(now.Add(-time.Second))
	c.table.apply(say("b", 2, now), anyone, now)
	c.gossip.NotifyMsg(reportMessage(say("a", 2, now), now))
	if c.evaluate(time.Now()); describe(c.view.Load()) != "a up, b up" {
		t.Errorf("the view is %q", describe(c.view.Load()))
	}
}

// A director that was stopped, and that wakes, hears some regions before others: silence is counted from then on.
func TestWhoWakesCountsSilenceFromThen(t *testing.T) {
	c := coreOf(t, Options{Name: "d", Role: roleDirector})
	lease, woken := c.o.Config.Lease, time.Now()
	say := func(regions string, sequence uint64, at time.Time) {
		for _, region := range strings.Fields(regions) {
			r := report{Agent: "agent", Region: region, numbering: numbering{1, sequence}, Parts: 1}
			c.table.apply(&part{report: r, raw: r.encode(nil), at: at}, anyone, at)
		}
	}
	for i, step := range []struct {
		heard string
		at    time.Duration // since it woke
		want  string
	}{
		{"a b c", -2 * lease, "a up, b up, c up"}, // and then it is stopped
		{"b c", 0, "a up held, b up, c up"},
		{"b c", lease / 3, "a up held, b up, c up"},
		{"b c", 2 * lease / 3, "a up held, b up, c up"},
		{"b c", lease, "a down silent for 5s, b up, c up"},
	} {
		now := woken.Add(step.at)
		say(step.heard, uint64(i+1), now)
		if c.evaluate(now); describe(c.view.Load()) != step.want {
			t.Errorf("%v after it woke the view is %q, want %q", step.at, describe(c.view.Load()), step.want)
		}
	}
}
