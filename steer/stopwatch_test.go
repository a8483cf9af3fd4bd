package steer_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// faulty is a view whose faults have times, in milliseconds from start: "eu-west down silent@900", "eu-west down left@900",
// "eu-west up 192.0.2.11=down@900", "eu-west up 192.0.2.11=unreachable@900".
func faulty(t *testing.T, set *zones.Set, text string, start time.Time) *healthmesh.View {
	v := view(t, set, text)
	for part := range strings.SplitSeq(text, ",") {
		f := strings.Fields(part)
		for _, word := range f[2:] {
			what, ms, found := strings.Cut(word, "@")
			if !found {
				continue
			}
			n, err := strconv.Atoi(ms)
			if err != nil {
				t.Fatal(err)
			}
			r, at := v.Regions[f[0]], start.Add(time.Duration(n)*time.Millisecond)
			endpoint, reason, _ := strings.Cut(what, "=")
			e := healthmesh.Endpoint{State: healthmesh.Down, Reason: "connection refused", Since: healthmesh.Stamp(n), At: at}
			if reason == "unreachable" {
				e.Reason = "unreachable: timeout, seen from ap-south, us-east"
			}
			switch {
			case what == "silent":
				r.Fault, r.FaultAt = healthmesh.Stamp(n), at
			case what == "left":
				r.Fault, r.FaultAt, r.Cause = healthmesh.Stamp(n), at, "left"
			default:
				r.Endpoints[healthmesh.ID("www.geo.example.com.", f[0], endpoint)] = e
			}
		}
	}
	return v
}

// The time to the last wrong answer is from the fault that took a region out to the last answer that held it, in whichever snapshot
// the answer began; it is told once, and only of what evidence took out. Each step is at a time in milliseconds: "ask" answers a client
// of eu-west, by A or AAAA, "begin" begins a batch, "end" answers such a client in it, "view" brings a view.
func TestTimeToLastWrongAnswer(t *testing.T) {
	const (
		up   = "view us-east up, eu-west up, ap-south up"
		gone = "view us-east up, ap-south up, eu-west "
	)
	for _, c := range []struct {
		name  string
		steps string
		want  string
	}{
		{"silence", "1000 ask A; 5500 ask A; 6000 " + gone + "down silent@1000; 6100 ask A", "7000 eu-west silence 4.5s"},
		{"a leave", "1000 ask A; 1010 " + gone + "down left@900", "2010 eu-west leave 100ms"},
		{"an endpoint", "1000 ask A; 1050 " + gone + "up 192.0.2.11=down@960 2001:db8:1::1=down@960", "2050 eu-west endpoint 40ms"},
		{"not reached from elsewhere", "1000 ask A; 1050 " + gone + "up 192.0.2.11=unreachable@960", "2050 eu-west unreachable 40ms"},
		{"no answer after the fault", "900 ask A; 1050 " + gone + "down silent@1000", "2050 eu-west silence 0s"},
		{"no answer ever", "1050 " + gone + "down silent@1000", "2050 eu-west silence 0s"},
		{"a batch that began before", "900 ask A; 1040 begin; 1050 " + gone + "down silent@1000; 1900 end A", "2050 eu-west silence 40ms"},
		{"one family", "1000 ask A; 1000 ask AAAA; 1500 ask AAAA; 1600 " + gone + "up 192.0.2.11=down@900; 1700 ask AAAA", "2600 eu-west endpoint 100ms"},
		{"the endpoints, then silence", "1000 ask A; 1050 " + gone + "down silent@1000 192.0.2.11=down@900 2001:db8:1::1=down@900", "2050 eu-west endpoint 100ms"},
		{"back before it is known", "1000 ask A; 1050 " + gone + "down silent@900; 1300 " + up + "; 1400 ask A", "1300 eu-west silence 100ms"},
		{"one after the other", "1000 ask A; 1050 " + gone + "down silent@900; 1100 ask A; 1600 view us-east up, ap-south down silent@1000, eu-west down silent@900", "2050 eu-west silence 100ms; 2600 ap-south silence 0s"},
		{"all at once: they stay in the answers", "1000 ask A; 1050 view us-east down silent@900, eu-west down silent@900, ap-south down silent@900; 2000 ask A", ""},
		{"and leave as one comes back", "1000 ask A; 1050 view us-east down silent@900, eu-west down silent@900, ap-south down silent@900; 2000 ask A; 3000 " + gone + "down silent@900",
			"4000 eu-west silence 1.1s"},
		{"a drain", "1000 ask A; 1050 " + gone + "drained", ""},
		{"a pin up that ends", "900 " + gone + "down silent@800 pinned; 1000 ask A; 1050 " + gone + "down silent@800", ""},
		{"held by the guard, until the first comes back", "1000 ask A; 1050 view us-east down silent@800, eu-west down silent@900, ap-south up; 2000 ask A; 3000 " + gone + "down silent@900",
			"2050 us-east silence 0s; 4000 eu-west silence 1.1s"},
		{"a fault whose time is unknown", "1000 ask A; 1050 " + gone + "down", ""},
		{"a reload ends the wait", "1000 ask A; 1050 " + gone + "down silent@900; 1200 reload", "1200 eu-west silence 100ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := load(t, service("nearest", "us-east", "eu-west", "ap-south"))
			surveys := []*steer.Survey{steer.NewSurvey(set, world()), steer.NewSurvey(set, world())}
			synctest.Test(t, func(t *testing.T) { measure(t, surveys, c.steps, c.want) })
		})
	}
}

func measure(t *testing.T, surveys []*steer.Survey, steps, want string) {
	start, set := time.Now(), surveys[0].Set
	mesh := &news{changed: make(chan struct{}, 1)}
	mesh.view.Store(view(t, set, "us-east up, eu-west up, ap-south up"))
	k := steer.NewKeeper(surveys[0], mesh, slog.New(slog.DiscardHandler), nil)
	var told []string
	k.OnDeparture(func(d *steer.Departure) {
		if len(d.Services) != 1 || d.Services[0] != "www.geo.example.com." {
			t.Errorf("services %v", d.Services)
		}
		told = append(told, fmt.Sprint(time.Since(start).Milliseconds(), " ", d.Region, " ", d.Cause, " ", d.Lag))
	})
	ctx, cancel := context.WithCancel(t.Context())
	go k.Run(ctx)
	ask := func(s *steer.Snapshot, tick int64, qtype string) {
		svc := s.Set.Services[0]
		p := s.Pick(svc, dns.StringToType[qtype], client(amsterdam))
		s.Answered(svc, &p, tick)
	}
	var begun *steer.Snapshot
	var tick int64
	for step := range strings.SplitSeq(steps, "; ") {
		at, do, _ := strings.Cut(step, " ")
		ms, err := strconv.Atoi(at)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(start.Add(time.Duration(ms) * time.Millisecond)))
		verb, rest, _ := strings.Cut(do, " ")
		switch s := k.Snapshot(); verb {
		case "ask":
			ask(s, s.Tick(time.Now()), rest)
		case "begin":
			begun, tick = s, s.Tick(time.Now())
		case "end":
			ask(begun, tick, rest)
		case "view":
			v := faulty(t, set, strings.ReplaceAll(rest, " pinned", ""), start)
			if strings.HasSuffix(rest, " pinned") {
				v.Regions["eu-west"].Order = &healthmesh.Order{Region: "eu-west", Kind: healthmesh.PinUp}
			}
			mesh.tell(v)
		case "reload":
			if err := k.Reload(ctx, surveys[1]); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("%q is no step", do)
		}
		synctest.Wait()
	}
	time.Sleep(time.Minute)
	cancel()
	synctest.Wait()
	if got := strings.Join(told, "; "); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}
