package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The addresses of the Internet of these tests.
var (
	rootServer  = netip.MustParseAddr("44.0.1.1")
	ourServer   = netip.MustParseAddr("44.0.2.1")
	ourAdmin    = "44.0.2.1:8053"
	narrower    = netip.MustParseAddr("44.0.6.1")
	resolverAt  = netip.MustParseAddr("44.0.4.1")
	someClient  = netip.MustParseAddr("44.0.5.1")
	rootHints   = ". 3600000 NS a.root.\na.root. 3600000 A 44.0.1.1\n"
	clientCount = 10000
)

// The steered names that resolvers are asked for: one as nearcast answers it, one with a scope as long as the source.
const wideName, narrowName = "www.geo.example.com.", "www.narrow.example.com."

// A resolver is a program that resolves for clients, as its configuration has it.
type resolver struct {
	name    string
	sendECS bool
	config  string // FOLDER stands for a folder of its own
	file    string
	args    []string
}

func resolvers() []resolver {
	return []resolver{
		{name: "unbound", sendECS: true, file: "unbound.conf", args: []string{"-d", "-c", "FOLDER/unbound.conf"}, config: `server:
  interface: 44.0.4.1
  outgoing-interface: 44.0.4.1
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  root-hints: FOLDER/root.hints
  module-config: "subnetcache iterator"
  send-client-subnet: 44.0.2.1
  send-client-subnet: 45.0.2.1
  send-client-subnet: 44.0.6.1
  client-subnet-always-forward: yes
  max-ecs-tree-size-ipv4: 100000
  do-not-query-localhost: no
remote-control:
  control-enable: no
`},
		{name: "pdns_recursor", sendECS: true, file: "recursor.conf", args: []string{"--config-dir=FOLDER"}, config: `local-address=44.0.4.1
query-local-address=44.0.4.1
allow-from=0.0.0.0/0
daemon=no
hint-file=FOLDER/root.hints
socket-dir=FOLDER
dnssec=off
dont-query=
security-poll-suffix=
ecs-add-for=0.0.0.0/0
edns-subnet-allow-list=geo.example.com,narrow.example.com
ecs-ipv4-bits=24
ecs-ipv4-cache-bits=24
max-cache-entries=1000000
loglevel=3
`},
		{name: "named", file: "named.conf", args: []string{"-g", "-c", "FOLDER/named.conf"}, config: `options {
  directory "FOLDER";
  listen-on { 44.0.4.1; };
  listen-on-v6 { none; };
  query-source address 44.0.4.1;
  allow-query { any; };
  recursion yes;
  allow-recursion { any; };
  dnssec-validation no;
  pid-file none;
  session-keyfile none;
  empty-zones-enable no;
};
controls { };
zone "." { type hint; file "FOLDER/root.hints"; };
`},
		{name: "kresd", file: "kresd.conf", args: []string{"-n", "-c", "FOLDER/kresd.conf", "FOLDER"}, config: `net.listen('44.0.4.1', 53)
net.outgoing_v4('44.0.4.1')
net.ipv6 = false
modules = {'hints'}
modules.unload('priming')
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
trust_anchors.remove('.')
cache.storage = 'lmdb://FOLDER'
cache.size = 10 * MB
hints.root({['a.root.'] = '44.0.1.1'})
`},
	}
}

// An internet is a namespace with a root server, and nearcast serving geo.example.com by delegation from there, on two
// addresses.
type internet struct {
	*namespace
	t   *testing.T
	dir string
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	bin, err := nearcast()
	if err != nil {
		t.Fatal(err)
	}
	n := &internet{newNamespace(t), t, t.TempDir()}
	n.write(n.dir, "root.zone", `. 86400 SOA a.root. host.root. 1 3600 600 604800 300
. 86400 NS a.root.
a.root. 86400 A 44.0.1.1
geo.example.com. 3600 NS ns1.geo.example.com.
geo.example.com. 3600 NS ns2.geo.example.com.
ns1.geo.example.com. 3600 A 44.0.2.1
ns2.geo.example.com. 3600 A 45.0.2.1
narrow.example.com. 3600 NS ns.narrow.example.com.
ns.narrow.example.com. 3600 A 44.0.6.1
1.2.0.44.in-addr.arpa. 3600 PTR ns1.geo.example.com.
1.2.0.45.in-addr.arpa. 3600 PTR ns2.geo.example.com.
`)
	n.write(n.dir, "nsd.conf", `server:
  ip-address: 44.0.1.1
  server-count: 1
  username: ""
  zonesdir: FOLDER
  pidfile: ""
  database: ""
  xfrdfile: "FOLDER/xfrd.state"
  zonelistfile: "FOLDER/zone.list"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: root.zone
`)
	startCommand(t, "nsd", n.command("nsd", "-d", "-c", filepath.Join(n.dir, "nsd.conf")), []string{"."}, n.asker(rootServer))
	n.write(n.dir, "geo.zone", `$TTL 3600
@ SOA ns1 hostmaster 2026010101 14400 3600 1209600 3600
@ NS ns1
@ NS ns2
@ MX 10 mail
@ A 44.0.3.1
ns1 A 44.0.2.1
ns2 A 45.0.2.1
mail A 44.0.3.1
info TXT "a static name"
alias CNAME www
*.wild A 192.0.2.8
`)
	n.write(n.dir, "narrow.zone", `$TTL 3600
@ SOA ns hostmaster 1 14400 3600 1209600 3600
@ NS ns
ns A 44.0.6.1
`)
	const services = `    services:
      - name: www
        ttl: 3600
        regions:
          - {region: us-east, addresses: [192.0.2.101]}
          - {region: eu-west, addresses: [192.0.2.102]}
          - {region: ap-south, addresses: [192.0.2.103]}
`
	n.write(n.dir, "nearcast.yaml", `listen: {dns: ["44.0.2.1:53", "45.0.2.1:53"], admin: "44.0.2.1:8053"}
dns: {rate_limit: {responses_per_second: 0}}
regions:
  - {name: us-east, location: [38.95, -77.45], capacity: 300}
  - {name: eu-west, location: [53.35, -6.26], capacity: 200}
  - {name: ap-south, location: [19.08, 72.88], capacity: 100}
zones:
  - name: geo.example.com
    file: geo.zone
`+services+`  - name: narrow.example.com
    file: narrow.zone
`+services)
	startCommand(t, "nearcast", n.command(bin, "serve", "-c", filepath.Join(n.dir, "nearcast.yaml")), []string{"geo.example.com."}, n.asker(ourServer))
	return n
}

// write writes a file; FOLDER in its text is the folder.
func (n *internet) write(folder, name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.ReplaceAll(text, "FOLDER", folder)), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// asker asks a server from some client.
func (n *internet) asker(server netip.Addr) func(*dns.Msg) (*dns.Msg, error) {
	return func(q *dns.Msg) (*dns.Msg, error) { return n.ask(someClient, server, q) }
}

// Real resolvers find the zone from the root, by its delegation, and answer static and steered names; those that send
// client subnets answer each client with its own region, mostly from their caches.
func TestResolvers(t *testing.T) {
	need(t, "root")
	need(t, "resolvers")
	n := newInternet(t)
	clients := drawClients(rand.New(rand.NewPCG(1, 2)), clientCount)
	own := map[string]map[netip.Addr]string{wideName: n.regions(clients, wideName), narrowName: n.regions(clients, narrowName)}
	regions := map[string]int{}
	for _, a := range own[wideName] {
		regions[a]++
	}
	if len(regions) != 3 {
		t.Fatalf("the clients' regions are %v, want all three", regions)
	}
	networks := map[netip.Prefix]bool{}
	for _, c := range clients {
		networks[network24(c)] = true
	}
	stopNarrowing := n.narrow(t)
	defer stopNarrowing()

	for _, r := range resolvers() {
		t.Run(r.name, func(t *testing.T) {
			folder := t.TempDir()
			n.write(folder, "root.hints", rootHints)
			n.write(folder, r.file, r.config)
			var args []string
			for _, a := range r.args {
				args = append(args, strings.ReplaceAll(a, "FOLDER", folder))
			}
			stop := startCommand(t, r.name, n.command(r.name, args...), []string{"geo.example.com."}, n.asker(resolverAt))
			defer stop()
			for _, c := range []struct {
				name  string
				qtype uint16
				want  string
			}{
				{"info.geo.example.com.", dns.TypeTXT, `NOERROR "a static name"`},
				{"x.wild.geo.example.com.", dns.TypeA, "NOERROR 192.0.2.8"},
				{"gone.geo.example.com.", dns.TypeA, "NXDOMAIN"},
				{"info.geo.example.com.", dns.TypeAAAA, "NOERROR"},
				{"www.geo.example.com.", dns.TypeA, "NOERROR 192.0.2.10"},
				{"www.geo.example.com.", dns.TypeAAAA, "NOERROR"},
				{"alias.geo.example.com.", dns.TypeA, "NOERROR 192.0.2.10"},
			} {
				m, err := n.ask(someClient, resolverAt, new(dns.Msg).SetQuestion(c.name, c.qtype))
				if got := lastData(m, err); !strings.HasPrefix(got, c.want) || c.want == "NOERROR" && got != c.want {
					t.Errorf("%s %v: %s, want %s", c.name, dns.Type(c.qtype), got, c.want)
				}
			}
			if !r.sendECS {
				return
			}
			hits := func(name string) float64 {
				before := n.queries(t)
				var wrong atomic.Int64
				n.each(clients, func(c netip.Addr) {
					m, err := n.ask(c, resolverAt, new(dns.Msg).SetQuestion(name, dns.TypeA))
					if got, want := address(m, err), own[name][c]; got != want && wrong.Add(1) <= 10 {
						t.Errorf("%s, client %v: %s, its region has %s", name, c, lastData(m, err), want)
					}
				})
				asked := n.queries(t) - before
				hits := 1 - float64(asked)/float64(len(clients))
				t.Logf("%s: %d clients in %d networks of /24: %d wrong, %d queries to nearcast: %.1f %% from the cache",
					name, len(clients), len(networks), wrong.Load(), asked, 100*hits)
				return hits
			}
			wide, bySource := hits(wideName), hits(narrowName)
			if wide < 5*bySource {
				t.Errorf("hit rate %.1f %%, want at least 5 times that with scope = source, %.1f %%", 100*wide, 100*bySource)
			}
		})
	}
}

// narrow answers for the zone narrow.example.com as nearcast does, but with a scope as long as the source, as servers do that
// know no better.
func (n *namespace) narrow(t *testing.T) (stop func()) {
	t.Helper()
	var in, out *net.UDPConn
	n.do(func() {
		var err error
		if in, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(narrower, 53))); err != nil {
			t.Fatal(err)
		}
		if out, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ourServer, 53))); err != nil {
			t.Fatal(err)
		}
	})
	var running sync.WaitGroup
	running.Go(func() {
		b := make([]byte, dns.MaxMsgSize)
		for {
			size, asker, err := in.ReadFromUDPAddrPort(b)
			if err != nil {
				return // the end
			}
			if _, err := out.Write(b[:size]); err != nil {
				return
			}
			out.SetReadDeadline(time.Now().Add(deadline))
			if size, err = out.Read(b); err != nil {
				return
			}
			if reply, err := scopeIsSource(b[:size]); err != nil {
				t.Error(err)
			} else if _, err := in.WriteToUDPAddrPort(reply, asker); err != nil {
				t.Error(err)
			}
		}
	})
	return func() {
		in.Close()
		out.Close()
		running.Wait()
	}
}

// scopeIsSource makes the scope of a reply's client subnet as long as the source.
func scopeIsSource(reply []byte) ([]byte, error) {
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		return nil, err
	}
	if o := m.IsEdns0(); o != nil {
		for _, option := range o.Option {
			if e, ok := option.(*dns.EDNS0_SUBNET); ok {
				e.SourceScope = e.SourceNetmask
			}
		}
	}
	return m.Pack()
}

// regions is what each client's network is answered for a name, by ourselves.
func (n *internet) regions(clients []netip.Addr, name string) map[netip.Addr]string {
	var mu sync.Mutex
	own := map[netip.Addr]string{}
	n.each(clients, func(c netip.Addr) {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IP(network24(c).Addr().AsSlice())}}
		r, err := n.ask(someClient, ourServer, q)
		mu.Lock()
		defer mu.Unlock()
		own[c] = address(r, err)
	})
	return own
}

// drawClients draws clients from networks all over the address space.
func drawClients(random *rand.Rand, n int) []netip.Addr {
	networks := make([]uint32, 10*n)
	for i := range networks {
		for {
			networks[i] = random.Uint32() &^ 0xFF
			first := networks[i] >> 24
			if first != 0 && first != 10 && first != 127 && first < 224 && networks[i]>>16 != 0xC0A8 && networks[i]>>20 != 0xAC1 && networks[i]>>16 != 0x2C00 {
				break
			}
		}
	}
	var clients []netip.Addr
	for range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], networks[random.IntN(len(networks))]|uint32(1+random.IntN(254)))
		clients = append(clients, netip.AddrFrom4(b))
	}
	return clients
}

func network24(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 24).Masked() }

// each calls f for all clients, a few at a time.
func (n *namespace) each(clients []netip.Addr, f func(netip.Addr)) {
	var wg sync.WaitGroup
	for i := range namespaceThreads {
		wg.Go(func() {
			for j := i; j < len(clients); j += namespaceThreads {
				f(clients[j])
			}
		})
	}
	wg.Wait()
}

// queries is how many queries of the zone nearcast has answered.
func (n *namespace) queries(t *testing.T) int {
	t.Helper()
	text, err := n.get(ourAdmin, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return int(metricIn(t, text, "nearcast_dns_queries_total"))
}

// address is the address in a reply.
func address(m *dns.Msg, err error) string {
	_, data, _ := strings.Cut(lastData(m, err), " ")
	return data
}

// lastData is a reply's rcode and the data of its last record.
func lastData(m *dns.Msg, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	text := dns.RcodeToString[m.Rcode]
	if len(m.Answer) > 0 {
		rr := m.Answer[len(m.Answer)-1]
		text += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return text
}

// get fetches a page in the namespace.
func (n *namespace) get(host, path string) (string, error) {
	conn, err := n.dial("tcp4", host)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return "", err
	}
	var b strings.Builder
	_, err = io.Copy(&b, conn)
	return b.String(), err
}
