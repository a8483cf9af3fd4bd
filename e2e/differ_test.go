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
	ours := askAll(t, ports[0], cases)
	theirs := make([][]*dns.Msg, len(others))
	for i, p := range others {
		theirs[i] = askAll(t, p.port, cases)
	}
	agreed, differences := 0, 0
	for i, q := range cases {
		replies := make([]*dns.Msg, len(others))
		for j := range others {
			replies[j] = theirs[j][i]
		}
		same, difference := compare(names, ours[i], replies)
		if same {
			agreed++
		}
		if difference == "" {
			continue
		}
		if differences++; differences <= 10 {
			t.Errorf("%s, %s", question(q), difference)
		}
	}
	t.Logf("seed %d: %d queries, three peers agree on %d, nearcast differs on %d", *peerSeed, len(cases), agreed, differences)
	if agreed < len(cases)*4/5 {
		t.Errorf("the peers agree on %d of %d queries only: what is compared is little", agreed, len(cases))
	}
}

func question(q *dns.Msg) string {
	text := q.Question[0].Name + " " + dns.Type(q.Question[0].Qtype).String()
	if o := q.IsEdns0(); o != nil {
		text += fmt.Sprintf(" +edns=%d", o.UDPSize())
		if o.Do() {
			text += " +do"
		}
	}
	return text
}

// askAll asks a server all queries over UDP, four at a time, and over TCP what it truncates.
func askAll(t *testing.T, port int, queries []*dns.Msg) []*dns.Msg {
	t.Helper()
	replies := make([]*dns.Msg, len(queries))
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
			client := &dns.Client{Timeout: queryTimeout, UDPSize: dns.MaxMsgSize}
			for i := a; i < len(queries); i += askers {
				r, _, err := client.ExchangeWithConn(queries[i], conn)
				if err == nil && r.Truncated {
					r, _, err = (&dns.Client{Net: "tcp", Timeout: queryTimeout}).Exchange(queries[i], address)
				}
				if err != nil {
					t.Errorf("port %d: %s: %v", port, question(queries[i]), err)
					return
				}
				replies[i] = r
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return replies
}

// compare holds our reply against the peers'. It reports whether three of them agree, and where these and ours
// differ.
func compare(zones []string, ours *dns.Msg, theirs []*dns.Msg) (agreed bool, difference string) {
	votes := map[string]int{}
	var all []string
	for _, m := range theirs {
		text := normal(zones, m)
		all = append(all, text)
		votes[text]++
	}
	our := normal(zones, ours)
	for text, n := range votes {
		if n < 3 {
			continue
		}
		if text != our {
			return true, fmt.Sprintf("nearcast\n%s\n%d peers\n%s", our, n, text)
		}
		var agreeing []*dns.Msg
		for i, m := range theirs {
			if all[i] == text {
				agreeing = append(agreeing, m)
			}
		}
		return true, compareExtra(ours, agreeing)
	}
	return false, ""
}

// normal is what is compared of a reply as a whole: rcode, AA, EDNS, the answer and the authority section, each
// sorted, without case, and without the apex NS that some servers add to answers.
func normal(zones []string, m *dns.Msg) string {
	head := fmt.Sprint(m.Question, " ", dns.RcodeToString[m.Rcode])
	if m.Authoritative {
		head += " aa"
	}
	if o := m.IsEdns0(); o != nil {
		head += fmt.Sprintf(" edns%d", o.Version())
		if o.Do() {
			head += " do"
		}
	}
	authority := slices.DeleteFunc(slices.Clone(m.Ns), func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeNS && slices.Contains(zones, strings.ToLower(rr.Header().Name))
	})
	return strings.Join([]string{head, "answer:", sorted(m.Answer), "authority:", sorted(authority)}, "\n")
}

func sorted(rrs []dns.RR) string {
	var texts []string
	for _, rr := range rrs {
		texts = append(texts, strings.ToLower(strings.Join(strings.Fields(rr.String()), " ")))
	}
	slices.Sort(texts)
	return strings.Join(texts, "\n")
}

// compareExtra compares the additional sections of replies that else agree: ours has what three peers have of servers
// at or below a cut, and nothing that no peer has.
func compareExtra(ours *dns.Msg, theirs []*dns.Msg) (difference string) {
	count := map[string]int{}
	owner := map[string]string{}
	for _, m := range theirs {
		for _, rr := range m.Extra {
			if rr.Header().Rrtype != dns.TypeOPT {
				text := sorted([]dns.RR{rr})
				count[text]++
				owner[text] = strings.ToLower(rr.Header().Name)
			}
		}
	}
	have := map[string]bool{}
	for _, rr := range ours.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		text := sorted([]dns.RR{rr})
		if have[text] {
			return "nearcast has twice, beside the answer: " + text
		}
		if have[text] = true; count[text] == 0 {
			return "only nearcast has, beside the answer: " + text
		}
	}
	for text, n := range count {
		glue := slices.ContainsFunc(ours.Ns, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeNS && dns.IsSubDomain(strings.ToLower(rr.Header().Name), owner[text])
		})
		if n >= 3 && glue && !have[text] {
			return "nearcast has not the glue: " + text
		}
	}
	return ""
}
