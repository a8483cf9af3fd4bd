package healthmesh

import (
	"fmt"
	"log/slog"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// crowd is what a director has heard of a mesh: agents of each region that report its services' endpoints, of two families, and witness
// others'. It returns reports as they come with a beat.
func crowd(b *testing.B, regions, agents, services int) (*core, func(sequence uint64) []*part) {
	b.Helper()
	plan := &Plan{Witnesses: 3}
	for r := range regions {
		name := fmt.Sprint("region-", r)
		plan.Regions = append(plan.Regions, PlanRegion{Name: name, Capacity: 100})
		for s := range services {
			for _, e := range []string{"192.0.2.1", "2001:db8::1"} {
				service := fmt.Sprintf("s%d.example.com.", s)
				plan.Targets = append(plan.Targets, Target{ID: ID(service, name, e), Region: name, Service: service, Endpoint: e})
			}
		}
	}
	o := Options{Name: "d", Role: roleDirector, Dir: b.TempDir(), Plan: plan, Log: slog.New(slog.DiscardHandler)}
	if err := o.complete(); err != nil {
		b.Fatal(err)
	}
	c := newCore(o, memory{Incarnation: 1})
	var all []agentKey
	for r := range regions {
		for a := range agents {
			all = append(all, agentKey{fmt.Sprint("region-", r), fmt.Sprint("agent-", r, "-", a)})
		}
	}
	own, duties := make(map[string][]Target), make(map[agentKey][]Target)
	hashes, chosen := hashesOf(all), make(map[string][]agentKey) // as Plan.duties does for one agent
	for _, t := range plan.Targets {
		own[t.Region] = append(own[t.Region], t)
		key := t.Service + "\x00" + t.Region
		if chosen[key] == nil {
			chosen[key] = plan.witnesses(key, t.Region, all, hashes)
		}
		for _, a := range chosen[key] {
			duties[a] = append(duties[a], t)
		}
	}
	statuses := make(map[agentKey]Status)
	for _, a := range all {
		s := Status{Capacity: 100, HasLoad: true, Load: 50, Endpoints: map[EndpointID]Endpoint{}}
		for _, t := range append(duties[a], own[a.region]...) {
			s.Endpoints[t.ID] = Endpoint{State: Up, Reason: "status 200"}
		}
		statuses[a] = s
	}
	return c, func(sequence uint64) (parts []*part) {
		for _, a := range all {
			head := report{Agent: a.name, Region: a.region, numbering: numbering{1, sequence}, Elapsed: 1000 * sequence}
			for _, r := range split(head, statuses[a], time.Now().Add(-time.Hour)) {
				parts = append(parts, &part{report: r, raw: r.encode(nil), at: time.Now()})
			}
		}
		return parts
	}
}

// What a director does for a mesh of so many regions, agents in each, and services: a beat's reports taken in, and one evaluation.
func BenchmarkCore(b *testing.B) {
	for _, size := range [][3]int{{3, 1, 10}, {10, 10, 10}, {100, 10, 10}, {100, 10, 50}, {1000, 1, 10}, {100, 10, 140}} { // the last fills the table
		heap := heapInUse()
		c, beat := crowd(b, size[0], size[1], size[2])
		sequence := uint64(0)
		name := fmt.Sprintf("regions=%d/agents=%d/services=%d", size[0], size[0]*size[1], size[2])
		b.Run("apply/"+name, func(b *testing.B) {
			parts, spent := 0, time.Duration(0)
			for b.Loop() { // so long as it takes with what is not timed: -benchtime 5x is enough
				sequence++
				b.StopTimer()
				m := message{parts: beat(sequence)}
				parts += len(m.parts)
				b.StartTimer()
				before := cpuTime()
				c.apply(m, time.Now())
				spent += cpuTime() - before
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(parts), "cpu-ns/report")
		})
		b.Run("evaluate/"+name, func(b *testing.B) {
			c.apply(message{parts: beat(sequence + 1)}, time.Now())
			before := cpuTime()
			for b.Loop() {
				c.evaluate(time.Now())
			}
			perOp(b, before)
			b.ReportMetric(heapInUse()-heap, "heap-MB")
		})
	}
}

// heapInUse is in megabytes, after what is not needed has gone.
func heapInUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// What an agent does when another comes or goes.
func BenchmarkDuties(b *testing.B) {
	c, beat := crowd(b, 100, 10, 10)
	var all []agentKey
	for _, p := range beat(1) {
		all = append(all, agentKey{p.Region, p.Agent})
	}
	defer perOp(b, cpuTime())
	for b.Loop() {
		c.plan.Load().duties(all[0], all)
	}
}

// What a signed report costs beside: to make its signature, and to verify it, once for each part that is new.
func BenchmarkSignatures(b *testing.B) {
	who, err := ParseIdentity(GenerateIdentity())
	if err != nil {
		b.Fatal(err)
	}
	all, body := keysOf([]PublicKey{who.Public()}), make([]byte, maxBodyBytes)
	raw := who.sign(signReport, body)
	b.Run("make", func(b *testing.B) {
		defer perOp(b, cpuTime())
		for b.Loop() {
			who.sign(signReport, body)
		}
	})
	b.Run("verify", func(b *testing.B) {
		defer perOp(b, cpuTime())
		for b.Loop() {
			if !all.verify(signReport, raw[:maxBodyBytes], raw[maxBodyBytes:]) {
				b.Fatal("a good signature is refused")
			}
		}
	})
}

// What a director of 1,000 agents in 100 regions does beside: the list for push/pull with each evaluation, and its memory when something changed.
func BenchmarkKeeping(b *testing.B) {
	for _, services := range []int{10, 50} {
		c, beat := crowd(b, 100, 10, services)
		c.apply(message{parts: beat(1)}, time.Now())
		c.evaluate(time.Now())
		b.Run(fmt.Sprintf("list/services=%d", services), func(b *testing.B) {
			defer perOp(b, cpuTime())
			for b.Loop() {
				c.table.all()
			}
		})
		m := memory{Numbers: c.table.numbers()}
		m.setRegions(c.shown.regions)
		b.Run(fmt.Sprintf("memory/services=%d", services), func(b *testing.B) {
			defer perOp(b, cpuTime())
			for b.Loop() {
				if err := m.write(nowhere{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// nowhere is a disk that costs nothing.
type nowhere struct{ folder }

func (nowhere) Write([]byte) error { return nil }

// perOp reports the processor's time since before, for each operation.
func perOp(b *testing.B, before time.Duration) {
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpuTime is the processor's time that the process has used: on a machine that is shared, what a thing costs is not how long it takes.
func cpuTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		panic(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
