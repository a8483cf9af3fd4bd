package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// answer is one reply of a director.
type answer struct {
	at       time.Time // when the query was sent
	director int
	client   int // position in regions
	region   int // of the first address; -1 if there is none
	rcode    int
	addrs    []netip.Addr
	ttl      uint32
	err      error // no reply
}

// bad says what no director must ever answer, "" if nothing.
func (a answer) bad() string {
	switch {
	case a.err != nil:
		return ""
	case a.rcode != dns.RcodeSuccess:
		return dns.RcodeToString[a.rcode]
	case len(a.addrs) == 0:
		return "an empty answer"
	}
	for _, x := range a.addrs {
		if int(x.As4()[2])-1 != a.region {
			return "addresses of several regions"
		}
	}
	return ""
}

const queryTimeout = 2 * time.Second

// ask asks a director for www as the client of one region.
func (c *cluster) ask(director, client int) answer {
	return askOver(director, client, regions[client].client, func() (net.Conn, error) {
		return net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", c.dns[director]))
	})
}

// askOver asks a director for www as a client of one region, with its network, over a connection of its own.
func askOver(director, client int, network string, dial func() (net.Conn, error)) answer {
	q := new(dns.Msg).SetQuestion("www.geo.example.com.", dns.TypeA)
	q.SetEdns0(1232, false)
	prefix := netip.MustParsePrefix(network)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_SUBNET{
		Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(prefix.Bits()), Address: prefix.Addr().AsSlice(),
	})
	a := answer{director: director, client: client, region: -1}
	conn, err := dial()
	a.at = time.Now()
	if err != nil {
		a.err = err
		return a
	}
	defer conn.Close()
	r, _, err := (&dns.Client{Timeout: queryTimeout}).ExchangeWithConn(q, &dns.Conn{Conn: conn})
	if err != nil {
		a.err = err
		return a
	}
	a.rcode = r.Rcode
	for _, rr := range r.Answer {
		if rec, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(rec.A.To4())
			a.addrs = append(a.addrs, addr)
			a.ttl = rec.Hdr.Ttl
		}
	}
	if len(a.addrs) > 0 {
		a.region = int(a.addrs[0].As4()[2]) - 1
	}
	return a
}

// traffic asks at a steady rate until it is stopped.
type traffic struct {
	mu      sync.Mutex
	answers []answer
	stop    func() []answer
}

const rate = 200 // queries a second, over all directors

// startTraffic asks all directors as all clients.
func (c *cluster) startTraffic() *traffic {
	return startTraffic(c.t, func(n int) answer { return c.ask(n%directors, n/directors%len(regions)) })
}

// startTraffic has ask send the n-th query, for all n in turn.
func startTraffic(t *testing.T, ask func(n int) answer) *traffic {
	tr := &traffic{}
	quit := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			all.Go(func() {
				a := ask(n)
				tr.mu.Lock()
				tr.answers = append(tr.answers, a)
				tr.mu.Unlock()
			})
		}
	})
	tr.stop = sync.OnceValue(func() []answer {
		close(quit)
		all.Wait()
		return tr.answers
	})
	t.Cleanup(func() { tr.stop() })
	return tr
}

// status is the part of `nearcast status --json` that tests read.
type status struct {
	Generation uint64
	Isolated   bool
	Regions    []struct {
		Name, State, Cause, Source string
		Held                       bool
	}
	Services []struct {
		Regions []struct {
			Region    string
			Endpoints []struct{ State string }
		}
	}
	Members  []struct{ Name, Role string }
	Warnings []string
}

// checked tells if every endpoint of a region has been checked.
func (s status) checked(region string) bool {
	for _, svc := range s.Services {
		for _, r := range svc.Regions {
			for _, e := range r.Endpoints {
				if r.Region == region && e.State == "unknown" {
					return false
				}
			}
		}
	}
	return true
}

func (c *cluster) status(director int) (status, error) {
	var s status
	text, err := c.get(director, "/api/v1/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

func (c *cluster) get(director int, path string) ([]byte, error) {
	resp, err := (&http.Client{Timeout: queryTimeout}).Get(fmt.Sprintf("http://127.0.0.1:%d%s", c.admin[director], path))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return text, err
}
