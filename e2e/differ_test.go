package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var (
	peerSeed  = flag.Uint64("peers.seed", 1, "the seed of the zones and queries that are compared with the peers'")
	peerCases = flag.Int("peers.cases", 20000, "how many queries are compared with the peers'")
)

// peerZones is how many zones the queries are spread over.
const peerZones = 10

// Where three of NSD, Knot DNS, BIND and PowerDNS give the same answer, nearcast gives it too, over zones and queries
// that are made up. What is compared, and what is left out of it and why, says docs/CONFORMANCE.md.
func TestPeers(t *testing.T) {
	need(t, "peers")
	g := &generator{Rand: rand.New(rand.NewPCG(*peerSeed, 0))}
	dir := t.TempDir()
	var names []string
	texts := map[string]string{}
	for i := range peerZones {
		for zone, text := range g.zones(i) {
			names = append(names, zone)
			texts[zone] = text
		}
	}
	slices.Sort(names)
	config := ""
	for _, zone := range names {
		if err := os.WriteFile(filepath.Join(dir, zoneFile(zone)), []byte(texts[zone]), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("  - name: %s\n    file: %s\n", zone, zoneFile(zone))
	}
	ports := freePorts(t, 2)
	config = fmt.Sprintf("listen: {dns: [127.0.0.1:%d], admin: 127.0.0.1:%d}\nzones:\n%s", ports[0], ports[1], config)
	if err := os.WriteFile(filepath.Join(dir, "nearcast.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	startServer(t, "nearcast", ports[0], names, bin, "serve", "-c", filepath.Join(dir, "nearcast.yaml"))
	others := peers()
	for _, p := range others {
		p.start(t, dir, names)
	}

	cases := make([]*dns.Msg, *peerCases)
	for i := range cases {
		cases[i] = g.query()
	}
	ours := askAll(t, "nearcast", ports[0], cases)
	theirs := make([][]reply, len(others))
	for i, p := range others {
		theirs[i] = askAll(t, p.name, p.port, cases)
	}
	tallies := make([]tally, len(parts))
	differences := 0
	for i, q := range cases {
		var replies []reply
		for j := range others {
			replies = append(replies, theirs[j][i])
		}
		problems := ours[i].faults(q)
		for j, p := range parts {
			agreed, difference := p.compare(names, ours[i], replies)
			tallies[j].note(agreed, difference)
			if difference != "" {
				problems = append(problems, p.name+": "+difference)
			}
		}
		if len(problems) == 0 {
			continue
		}
		if differences++; differences <= 10 {
			t.Errorf("%s, %s", question(q), strings.Join(problems, "\n"))
		}
	}
	t.Logf("seed %d: %d queries, nearcast differs on %d", *peerSeed, len(cases), differences)
	for j, p := range parts {
		t.Logf("%-11s %v", p.name, tallies[j])
		if tallies[j].agreed < len(cases)*9/10 {
			t.Errorf("three peers agree on the %s of %d of %d queries only: what is compared is little", p.name, tallies[j].agreed, len(cases))
		}
	}
	truncated := 0
	for _, r := range ours {
		if r.udp.Truncated {
			truncated++
		}
	}
	t.Logf("%d replies are truncated over UDP", truncated)
	if truncated < len(cases)/2000 {
		t.Errorf("%d of %d replies are truncated: nothing is compared of what does not fit", truncated, len(cases))
	}
}

// A tally counts replies of which a part is compared.
type tally struct {
	agreed, differ int
	alike          [3]int // of those on which no three peers agree: how many peers have what nearcast has, 2 at most
}

func (t *tally) note(agreed int, difference string) {
	switch {
	case difference != "":
		t.agreed++
		t.differ++
	case agreed >= majority:
		t.agreed++
	default:
		t.alike[min(agreed, len(t.alike)-1)]++
	}
}

func (t tally) String() string {
	return fmt.Sprintf("three peers agree on %d, nearcast differs on %d; where they do not, two peers have what nearcast has in %d, one in %d, none in %d",
		t.agreed, t.differ, t.alike[2], t.alike[1], t.alike[0])
}

func question(q *dns.Msg) string {
	text := q.Question[0].Name + " " + dns.Type(q.Question[0].Qtype).String()
	if o := q.IsEdns0(); o != nil {
		text += fmt.Sprintf(" +edns=%d,%d", o.Version(), o.UDPSize())
		if o.Do() {
			text += " +do"
		}
	}
	return text
}

// A reply is what a server sends over UDP, and what it sends over TCP if that is truncated.
type reply struct {
	udp, whole *dns.Msg
	octets     int // over UDP
}

// askAll asks a server all queries, four at a time.
func askAll(t *testing.T, name string, port int, queries []*dns.Msg) []reply {
	t.Helper()
	replies := make([]reply, len(queries))
	address := fmt.Sprintf("127.0.0.1:%d", port)
	const askers = 4
	var wg sync.WaitGroup
	for a := range askers {
		wg.Go(func() {
			conn, err := dns.DialTimeout("udp", address, queryTimeout)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for i := a; i < len(queries); i += askers {
				if replies[i], err = askBoth(conn, address, queries[i]); err != nil {
					t.Errorf("%s: %s: %v", name, question(queries[i]), err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return replies
}

// askBoth asks over UDP, and over TCP for what is truncated.
func askBoth(conn *dns.Conn, address string, q *dns.Msg) (r reply, err error) {
	conn.SetDeadline(time.Now().Add(queryTimeout))
	conn.UDPSize = dns.MaxMsgSize
	if err := conn.WriteMsg(q); err != nil {
		return r, err
	}
	b, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return r, err
	}
	r.udp, r.octets = new(dns.Msg), len(b)
	if err := r.udp.Unpack(b); err != nil {
		return r, err
	}
	if r.udp.Id != q.Id {
		return r, dns.ErrId
	}
	if r.whole = r.udp; r.udp.Truncated {
		r.whole, _, err = (&dns.Client{Net: "tcp", Timeout: queryTimeout}).Exchange(q, address)
	}
	return r, err
}

// faults are what is wrong with a reply whatever others send.
func (r reply) faults(q *dns.Msg) (all []string) {
	limit := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		limit = min(max(int(o.UDPSize()), dns.MinMsgSize), 1232)
	}
	if r.octets > limit {
		all = append(all, fmt.Sprintf("%d octets, at most %d are taken", r.octets, limit))
	}
	if len(r.udp.Answer) > 0 && sorted(r.udp.Answer) != sorted(r.whole.Answer) {
		all = append(all, "a part of the answer:\n"+r.udp.String())
	}
	if r.udp.Question[0] != q.Question[0] {
		all = append(all, "another question")
	}
	for i, rr := range r.whole.Answer {
		if i == 0 && rr.Header().Rrtype != dns.TypeDNAME && rr.Header().Name != q.Question[0].Name {
			all = append(all, "the answer's name is not the question's: "+rr.String())
		}
	}
	return all
}
