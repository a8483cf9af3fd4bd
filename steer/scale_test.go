package steer_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
)

var (
	scaleMembers  = flag.Int("scale", 10, "measure a mesh of so many members, at least 10")
	crowdServices = flag.Int("services", 10, "of its regions")
)

// What TestScale makes: directors, and agents of regions of at most crowdAgents. A region has one endpoint of each service, which
// crowdWitnesses agents of as many other regions see.
const (
	crowdDirectors = 3
	crowdAgents    = 10
	crowdWitnesses = 3
	crowdWindow    = 10 * time.Second // over which traffic is counted
	crowdPatience  = 90 * time.Second // until a wait is given up
	crowdPace      = 20 * time.Millisecond
)

// The most that an outage may add to what a node sends: constant work. Half, since what memberlist says of members varies by itself.
const outageGrowth = 1.5

// TestScale measures a mesh in virtual time, so that its times and bytes are right on any machine:
//
//	go test ./steer -run TestScale -scale 1000 -v -timeout 1h
func TestScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, max(*scaleMembers, 10))
		defer c.close()
		c.measure()
	})
}

// A crowd is a mesh whose agents report what the test says.
type crowd struct {
	t         *testing.T
	net       *simnet
	plan      *healthmesh.Plan
	directors []*crowdNode
	agents    []*crowdNode
	regions   int
	down      func(region int) bool // whose endpoints fail
}

type crowdNode struct {
	mesh    *healthmesh.Mesh
	station *station
	name    string
	region  int
}

func regionName(r int) string { return fmt.Sprintf("region-%d", r) }

func newCrowd(t *testing.T, members int) *crowd {
	agents := members - crowdDirectors
	c := &crowd{
		t: t, net: newSimnet(rand.New(rand.NewPCG(1, 2)), weather{delay: 20 * time.Millisecond, jitter: 10 * time.Millisecond}),
		regions: max(min(agents, 7), (agents+crowdAgents-1)/crowdAgents), plan: new(healthmesh.Plan), down: func(int) bool { return false },
	}
	c.plan.Witnesses = crowdWitnesses
	for r := range c.regions {
		c.plan.Regions = append(c.plan.Regions, healthmesh.PlanRegion{Name: regionName(r), Capacity: 100})
		for s := range *crowdServices {
			service := fmt.Sprintf("s%d.example.", s)
			c.plan.Targets = append(c.plan.Targets, healthmesh.Target{
				ID: healthmesh.ID(service, regionName(r), "192.0.2.1"), Region: regionName(r), Service: service, Endpoint: "192.0.2.1",
			})
		}
	}
	for range crowdDirectors {
		c.direct()
	}
	for i := range agents {
		c.agents = append(c.agents, c.start(fmt.Sprintf("agent-%d", i), "agent", i%c.regions))
		time.Sleep(time.Second / time.Duration(agents)) // beats are not in phase
	}
	return c
}

// direct starts a director.
func (c *crowd) direct() *crowdNode {
	n := c.start(fmt.Sprintf("d%d", len(c.directors)), "director", -1)
	c.directors = append(c.directors, n)
	return n
}

func (c *crowd) start(name, role string, region int) *crowdNode {
	i := len(c.directors) + len(c.agents)
	ip := fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
	n := &crowdNode{name: name, region: region, station: c.net.station(ip, 7946)}
	plan := *c.plan // each node has its own
	plan.Targets = slices.Clone(plan.Targets)
	o := healthmesh.Options{
		Name: name, Role: role, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Transport: n.station, Disk: new(memoryDisk), Plan: &plan,
		Config: healthmesh.Config{Listen: ip + ":7946", Join: []string{"10.0.0.1:7946", "10.0.0.2:7946", "10.0.0.3:7946"}},
	}
	if role == "agent" {
		o.Region = regionName(region)
	}
	m, err := healthmesh.Start(o)
	if err != nil {
		c.t.Fatal(err)
	}
	n.mesh = m
	if role == "agent" {
		c.publish(n)
	}
	return n
}

func (c *crowd) close() {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, n := range append(c.directors, c.agents...) {
		_ = n.mesh.Close(gone) // it says that it was not waited for
	}
	synctest.Wait()
	time.Sleep(10 * time.Second)
}

// publish has an agent say what is so: of its region, and of what it witnesses.
func (c *crowd) publish(n *crowdNode) {
	s := healthmesh.Status{Capacity: 100, HasLoad: true, Load: 50, Endpoints: make(map[healthmesh.EndpointID]healthmesh.Endpoint)}
	turn := slices.Index(c.agents, n) / c.regions
	if turn < 0 { // it is being started
		turn = len(c.agents) / c.regions
	}
	for i, target := range c.plan.Targets {
		r := i / *crowdServices
		off := (n.region - r + c.regions) % c.regions
		if off > crowdWitnesses || off > 0 && i%crowdAgents != turn {
			continue
		}
		e := healthmesh.Endpoint{State: healthmesh.Up, Reason: "status 200"}
		if c.down(r) {
			e = healthmesh.Endpoint{State: healthmesh.Down, Reason: "timeout"}
		}
		s.Endpoints[target.ID] = e
	}
	n.mesh.Publish(s)
}

// tell has all agents publish, and wants what follows at all directors.
func (c *crowd) tell(down func(region int) bool) {
	c.down = down
	for _, n := range c.agents {
		c.publish(n)
	}
}

// until is how long it takes for all directors to believe something.
func (c *crowd) until(what string, is func(v *healthmesh.View) bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for !c.all(is) {
		if time.Since(began) > crowdPatience {
			c.t.Fatalf("%s: not at all directors within %v", what, crowdPatience)
		}
		time.Sleep(crowdPace)
	}
	return time.Since(began)
}

func (c *crowd) all(is func(v *healthmesh.View) bool) bool {
	return !slices.ContainsFunc(c.directors, func(n *crowdNode) bool { return !is(n.mesh.View()) })
}

// endpoints says whether in a view the endpoints of all regions are as the test says.
func (c *crowd) endpoints(v *healthmesh.View) bool {
	for i, target := range c.plan.Targets {
		r := v.Regions[target.Region]
		want := healthmesh.Up
		if c.down(i / *crowdServices) {
			want = healthmesh.Down
		}
		if r == nil || r.State != healthmesh.Up || r.Endpoints[target.ID].State != want {
			return false
		}
	}
	return true
}

// A rate is what a node of a kind sends a second, the mean and the most of them.
type rate struct{ packets, bytes, most, streamed float64 }

func (c *crowd) rates(nodes []*crowdNode, before []traffic) (r rate) {
	for i, n := range nodes {
		sent := n.station.traffic().since(before[i])
		second := crowdWindow.Seconds()
		r.packets += float64(sent.packets) / second / float64(len(nodes))
		r.bytes += float64(sent.bytes) / second / float64(len(nodes))
		r.streamed += float64(sent.streamed) / second / float64(len(nodes))
		r.most = max(r.most, float64(sent.bytes)/second)
	}
	return r
}

func (c *crowd) traffic(nodes []*crowdNode) (all []traffic) {
	for _, n := range nodes {
		all = append(all, n.station.traffic())
	}
	return all
}

func (c *crowd) window(what string) (directors, agents rate) {
	d, a := c.traffic(c.directors), c.traffic(c.agents)
	time.Sleep(crowdWindow)
	directors, agents = c.rates(c.directors, d), c.rates(c.agents, a)
	for kind, r := range map[string]rate{"director": directors, "agent": agents} {
		c.t.Logf("%s: a %s sends %.0f packets/s, %.1f kB/s (at most %.1f), and %.1f kB/s in streams", what, kind, r.packets, r.bytes/1e3, r.most/1e3, r.streamed/1e3)
	}
	return directors, agents
}

func (c *crowd) measure() {
	t := c.t
	t.Logf("%d members: %d directors, %d agents of %d regions, %d services", len(c.directors)+len(c.agents), len(c.directors), len(c.agents), c.regions, *crowdServices)
	t.Logf("all regions are heard %v after the last agent started", c.until("all is up", c.endpoints))
	time.Sleep(2 * crowdWindow)
	quietDirectors, quietAgents := c.window("quiet")

	if err := c.directors[0].mesh.Give(t.Context(), healthmesh.Order{Region: regionName(0), Kind: healthmesh.Drain}); err != nil {
		t.Fatal(err)
	}
	took := c.until("an order", func(v *healthmesh.View) bool { return v.Regions[regionName(0)].Order != nil })
	t.Logf("an order is at all directors after %v", took)
	if took > time.Second {
		t.Errorf("an order took %v, more than a second", took)
	}

	c.tell(func(r int) bool { return r == 1 })
	t.Logf("a fault is at all directors after %v", c.until("a fault", c.endpoints))

	c.tell(func(r int) bool { return r%3 == 1 })
	t.Logf("an outage of a third is at all directors after %v", c.until("an outage", c.endpoints))
	outDirectors, outAgents := c.window("outage")
	if outDirectors.bytes > outageGrowth*quietDirectors.bytes || outAgents.bytes > outageGrowth*quietAgents.bytes {
		t.Errorf("in an outage a director sends %.0f bytes/s and an agent %.0f, on a quiet day %.0f and %.0f", outDirectors.bytes, outAgents.bytes, quietDirectors.bytes, quietAgents.bytes)
	}
	c.tell(func(int) bool { return false })
	c.until("the end of an outage", c.endpoints)

	c.broken()

	t.Logf("deaths of agents are known at all directors after %v", c.deaths())

	c.direct()
	t.Logf("a late director believes what the others do after %v", c.until("a late director", c.endpoints))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("heap in use for all nodes: %d MB", m.HeapInuse>>20)
}

// broken cuts one agent off from one director for longer than a lease, and wants the director to hear it all the same.
func (c *crowd) broken() {
	d, a := c.directors[0], c.agents[0]
	links := []link{{d.station.addr, a.station.addr}, {a.station.addr, d.station.addr}}
	c.net.change(cut{1, 1}, links...)
	for range 150 {
		time.Sleep(100 * time.Millisecond)
		if r := d.mesh.View().Regions[regionName(a.region)]; !slices.Contains(r.Agents, a.name) {
			c.t.Errorf("a director that cannot reach an agent does not hear of it by others: %v %s", r.State, r.Cause)
			break
		}
	}
	c.net.change(cut{-1, -1}, links...)
	c.until("the end of a cut", c.endpoints)
}

// deaths are the times until all directors know that an agent died without a word, of one after the other.
func (c *crowd) deaths() (all []time.Duration) {
	for range 3 {
		last := len(c.agents) - 1
		n := c.agents[last]
		c.agents = c.agents[:last]
		n.station.close(true)
		if lone := last < c.regions; lone {
			all = append(all, c.until("a death", func(v *healthmesh.View) bool { return v.Regions[regionName(n.region)].State == healthmesh.Down }))
			c.plan.Targets = slices.DeleteFunc(c.plan.Targets, func(t healthmesh.Target) bool { return t.Region == regionName(n.region) })
			c.regions--
		} else {
			all = append(all, c.until("a death", func(v *healthmesh.View) bool { return !slices.Contains(v.Regions[regionName(n.region)].Agents, n.name) }))
		}
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.mesh.Close(gone)
	}
	return all
}
