package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

const (
	soakRounds  = 50 // of each: configuration reloads, database reloads
	soakFlips   = 10 // changes of health, in the first rounds
	soakClients = 4  // that query all the while
)

// Under the race detector, with the configuration, the database and health changing all the while, every answer
// is right, and nothing is left open.
func TestReloadsAndFlipsUnderLoad(t *testing.T) {
	t.Parallel() // with TestCompose, which takes long as well
	c := newCluster(t, nearcastRace)
	c.writeDatabase(0)
	config, err := os.ReadFile(filepath.Join(c.dir, "nearcast.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	quick := strings.Replace(string(config), "interval: 1s, timeout: 500ms, fall: 2, rise: 2", "interval: 100ms, timeout: 500ms, fall: 1, rise: 1, hold_down: 1ms", 1)
	c.write("nearcast.yaml", quick+"geo: {database: geo.mmdb}\n")
	c.startAll()
	c.until("nothing is left to settle", func() bool { return c.metric(0, "nearcast_mesh_members{role=\"agent\"}") == float64(len(regions)) })
	goroutines, files := c.metric(0, "go_goroutines"), c.metric(0, "process_open_fds")

	ended := make(chan struct{})
	answered := make(chan int, soakClients)
	var wrong atomic.Int64
	for n := range soakClients {
		go func() {
			count := 0
			defer func() { answered <- count }()
			for i := n; ; i++ {
				select {
				case <-ended:
					return
				default:
				}
				a := c.ask(i%directors, i/directors%len(regions))
				count++
				// The clients of region 0 are answered with region 1 while it is down.
				right := a.region == a.client || a.client == 0 && a.region == 1
				if (a.err != nil || a.bad() != "" || !right) && wrong.Add(1) < 10 {
					t.Errorf("director %d, client of %s: region %d %s %v", a.director, regions[a.client].name, a.region, a.bad(), a.err)
				}
			}
		}()
	}
	applied := c.metric(0, `nearcast_reloads_total{result="applied"}`)
	for round := range soakRounds {
		c.write("geo.example.com.zone", strings.Replace(zoneText, "static", fmt.Sprintf("round %d", round), 1))
		c.reload(0)
		c.writeDatabase(round)
		c.reload(0)
		want := 0
		switch {
		case round >= soakFlips: // more would be flapping, and hold the region down for long
		case round%2 == 0:
			want = 1
			c.failRegion(0)
		default:
			c.healRegion(0)
		}
		for d := range directors {
			c.waitAnswer(d, 0, want)
		}
	}
	c.healRegion(0)
	for d := range directors {
		c.waitAnswer(d, 0, 0)
	}
	close(ended)
	total := 0
	for range soakClients {
		total += <-answered
	}
	reloads := c.metric(0, `nearcast_reloads_total{result="applied"}`) - applied
	t.Logf("%d answers during %d rounds; %v reloads", total, soakRounds, reloads)
	if refused := c.metric(0, `nearcast_reloads_total{result="refused"}`); reloads < 2*soakRounds || refused > 0 {
		t.Errorf("%v reloads applied and %v refused, want %d at least and none", reloads, refused, 2*soakRounds)
	}
	c.until(fmt.Sprintf("as many goroutines (%v) and files (%v) as before, or fewer, but for a few of the runtime's", goroutines, files), func() bool {
		return c.metric(0, "go_goroutines") <= goroutines+5 && c.metric(0, "process_open_fds") <= files+3
	})
}

// reload has a director reload, and returns when the new state is in use.
func (c *cluster) reload(director int) {
	c.t.Helper()
	resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/api/v1/reload", c.admin[director]), "application/json", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("reload: %s", resp.Status)
	}
}

// writeDatabase writes geo.mmdb, replacing it whole: the clients of the cluster's regions are in it with a place
// near their region, and a network that differs from round to round.
func (c *cluster) writeDatabase(round int) {
	c.t.Helper()
	places := clientPlaces()
	places["8.0.0.0/8"] = [2]float64{float64(round), float64(-round)}
	writeDatabase(c.t, filepath.Join(c.dir, "geo.mmdb"), places)
}

// clientPlaces are coordinates of the clients of tests.
func clientPlaces() map[string][2]float64 {
	return map[string][2]float64{
		"128.112.0.0/16": {40.3, -74.6}, "193.0.0.0/21": {52.4, 4.9}, "117.192.0.0/16": {19.0, 73.0}, "200.160.0.0/20": {-23.5, -46.6},
	}
}

// writeDatabase writes a database that has networks and their coordinates, replacing it whole.
func writeDatabase(t *testing.T, path string, places map[string][2]float64) {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City", RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	for network, at := range places {
		_, n, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		place := mmdbtype.Map{"location": mmdbtype.Map{"latitude": mmdbtype.Float64(at[0]), "longitude": mmdbtype.Float64(at[1])}}
		if err := tree.Insert(n, place); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(path + ".tmp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}
