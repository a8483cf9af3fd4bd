package dnsserver

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// The zones of these tests. Names in cases are relative to geo.example.com.
var zoneFiles = map[string]string{
	"geo.example.com": `$TTL 300
@ SOA ns1 hostmaster 1 3600 600 604800 60
@ NS ns1
@ NS ns2.example.net.
@ MX 10 mail
ns1 A 192.0.2.53
mail A 192.0.2.25
mail AAAA 2001:db8::25
info TXT "hello"
odd CAA 0 issue "a\\b"
mixed 600 A 192.0.2.31
mixed 60 A 192.0.2.32
a.b.deep A 192.0.2.7
*.wild A 192.0.2.8
*.wild MX 5 mail
*.walias CNAME mail
near.wild TXT "not the wildcard"
alias CNAME mail
alias2 CNAME alias
alias3 CNAME alias2
aliasout CNAME www.example.net.
aliasgone CNAME gone
aliaschild CNAME host.child
aliaswww CNAME www
aliasother CNAME www.example.org.
aliasnodata CNAME info
loop CNAME loop2
loop2 CNAME loop
` + chain(steer.MaxAliases+1) + `child NS ns.child
child NS ns1
ns.child A 192.0.2.4
safe NS ns.safe
safe DS 12345 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
ns.safe A 192.0.2.5
wide NS ns.wide
` + repeat(60, "ns.wide AAAA 2001:db8:5::%d\n") + `broad NS ns.broad
ns.broad A 192.0.2.6
` + repeat(60, "broad NS ns%d.example.net.\n") + `big TXT "first"
` + repeat(60, "big TXT \"a text to fill the message, number %d\"\n") + repeat(20, "middle TXT \"a text to fill the message, number %d\"\n") + `extra TXT "beside the service"
moved DNAME deep
moved TXT "not renamed itself"
home DNAME example.org.
_dns SVCB 1 mail alpn=dot ipv4hint=0.0.0.0 ipv6hint=::
fixed HTTPS 1 mail ipv4hint=192.0.2.99
towild MX 5 host.wild
_t._tcp SRV 1 1 53 host.wild
_t._tcp SRV 1 1 53 HOST.wild
_t._tcp SRV 2 1 53 host.child
_t._tcp SRV 3 1 53 host.moved
_t._tcp SRV 4 1 53 x.apps
_t._tcp SRV 5 1 53 .
mail HTTPS 1 . alpn=h2
*.own HTTPS 1 . alpn=h2
*.own A 192.0.2.41
stands HTTPS 0 mail
none HTTPS 0 .
nomail MX 0 .
round DNAME x.round
up DNAME @
up MX 1 ns1
long DNAME ` + strings.Repeat(strings.Repeat("l", 60)+".", 3) + `geo.example.com.
root DNAME .
in NS ns.in
in NS ns1
in DS 12345 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
` + repeat(12, "provided MX 10 mx%d.mail.provider.example.net.\n") + repeat(12, "elsewhere NS ns%d.dns.provider.example.net.\n") +
		repeat(1000, "vast MX 10 mx%d.mail.provider.example.net.\n") + repeat(12, "glued NS ns%d.glued\nns%[1]d.glued A 192.0.2.%[1]d\n") +
		repeat(20, "hosts MX 10 host%d\n") + repeat(20, "host%d AAAA 2001:db8::25\n"),
	"in.geo.example.com": "$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 3600\n@ NS ns\nns A 192.0.2.55\n",
	"example.org":        "$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 3600\n@ NS ns\nns A 192.0.2.54\nwww A 192.0.2.9\n",
}

// hints are records of the zone of services that ask for these services' addresses.
const hints = `dual HTTPS 1 . alpn=h2 ipv4hint=0.0.0.0 ipv6hint=::
both HTTPS 1 . ipv4hint=0.0.0.0 ipv6hint=::
web HTTPS 1 four ipv4hint=0.0.0.0
web HTTPS 2 mail ipv4hint=0.0.0.0 ipv6hint=::
lost HTTPS 1 down ipv4hint=0.0.0.0
tohalf HTTPS 1 half ipv6hint=::
`

// chain is n aliases, each of the next.
func chain(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "long%d CNAME long%d\n", i+1, i+2)
	}
	return b.String()
}

func repeat(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i+1)
	}
	return b.String()
}

// The services of these tests, in geo.example.com. Those of policy failover and weighted do not depend on the client's
// place.
func services() []zones.ServiceConfig {
	member := func(region string, addresses ...string) zones.MemberConfig {
		return zones.MemberConfig{Region: region, Addresses: addresses}
	}
	host := func(region, name string) zones.MemberConfig { return zones.MemberConfig{Region: region, CNAME: name} }
	members := func(m ...zones.MemberConfig) []zones.MemberConfig { return m }
	return []zones.ServiceConfig{
		{Name: "www", Steer: "failover", Regions: members(member("us", "192.0.2.101", "2001:db8::101"), member("eu", "192.0.2.102"))},
		{Name: "dual", Steer: "failover", Regions: members(member("us", "192.0.2.103", "2001:db8::103"))},
		{Name: "four", Steer: "failover", Regions: members(member("us", "192.0.2.111", "192.0.2.112"))},
		{Name: "bound", Steer: "weighted", ECS: "off", Answers: 2, Regions: members(member("us", "192.0.2.135"), member("eu", "192.0.2.136"))},
		{Name: "six", Steer: "failover", Regions: members(member("us", "2001:db8::121"))},
		{Name: "both", Steer: "weighted", Answers: 2, Regions: members(member("us", "192.0.2.131"), member("eu", "192.0.2.132"))},
		{Name: "one", Steer: "weighted", Regions: members(member("us", "192.0.2.133"), member("eu", "192.0.2.134"))},
		{Name: "cdn", Steer: "failover", Answers: 2, Regions: members(host("us", "us.cdn.example.net"), host("eu", "eu.cdn.example.net"))},
		{Name: "cdns", Steer: "weighted", Answers: 2, Regions: members(host("us", "us.cdn.example.net"), host("eu", "eu.cdn.example.net"))},
		{Name: "hop", Steer: "failover", Regions: members(host("us", "www.geo.example.com"))},
		{Name: "hops", Steer: "weighted", Regions: members(host("us", "one.geo.example.com"), host("eu", "both.geo.example.com"))},
		{Name: "towww", Steer: "weighted", Regions: members(host("us", "www.geo.example.com"), host("eu", "www.geo.example.com"))},
		{Name: "downwww", Steer: "failover", Checked: true, Regions: members(host("us", "www.geo.example.com"))},
		{Name: "*.apps", Steer: "failover", Regions: members(member("us", "192.0.2.141"))},
		{Name: "extra", Steer: "failover", Regions: members(member("us", "192.0.2.151"))},
		{Name: "down", Steer: "failover", Checked: true, Regions: members(member("us", "192.0.2.161"), member("eu", "192.0.2.162"))},
		{Name: "half", Steer: "failover", Regions: members(member("eu", "192.0.2.171"), member("us", "192.0.2.172", "2001:db8::172"))},
		{Name: "downhalf", Steer: "failover", Checked: true, Regions: members(member("eu", "192.0.2.173"), member("us", "2001:db8::174"))},
		{Name: "downhop", Steer: "failover", Regions: members(host("us", "down.geo.example.com"))},
	}
}

var regions = []zones.RegionConfig{
	{Name: "us", Location: []float64{38.95, -77.45}, Capacity: 100},
	{Name: "eu", Location: []float64{50.11, 8.68}, Capacity: 100},
}

// load compiles the zones with services.
func load(t testing.TB, services []zones.ServiceConfig) *zones.Set {
	t.Helper()
	dir := t.TempDir()
	var configs []zones.ZoneConfig
	for _, name := range []string{"geo.example.com", "in.geo.example.com", "example.org"} {
		text := zoneFiles[name]
		if name == "geo.example.com" && slices.ContainsFunc(services, func(c zones.ServiceConfig) bool { return c.Name == "dual" }) {
			text += hints
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		configs = append(configs, zones.ZoneConfig{Name: name, File: name})
	}
	configs[0].Services = services
	set := zones.Load(dir, regions, configs, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	if set == nil {
		t.FailNow()
	}
	return set
}

// noon is when the tests' queries come, in Unix seconds.
const noon = 1559734385

// settings compiles a configuration.
func settings(t testing.TB, c Config) *Settings {
	t.Helper()
	s := c.Compile("dns", t.TempDir(), nil, func(key string, value any, accepted string) { t.Errorf("%s: %v: %s", key, value, accepted) })
	return s
}

// testConfig tells the tests' server from others.
func testConfig() Config {
	id := "test-1"
	return Config{NSID: &id, ChaosID: "chaos-1", ECSFrom: []string{"0.0.0.0/1", "128.0.0.0/1", "::/0"}}
}

// serverOf are the options of a server that answers from a scene.
func serverOf(s *Scene, listen ...string) Options {
	return Options{
		Listen: listen, Settings: s.Settings, Snapshot: func() *steer.Snapshot { return s.Snapshot }, View: s.View,
		Log: slog.New(slog.DiscardHandler),
	}
}

// build makes a scene in which all is up but the checked endpoints. table may be nil if no service is nearest.
func build(t testing.TB, services []zones.ServiceConfig, table *geo.Table) *Scene {
	t.Helper()
	set := load(t, services)
	view := &healthmesh.View{Regions: map[string]*healthmesh.Region{}}
	for _, r := range regions {
		view.Regions[r.Name] = &healthmesh.Region{State: healthmesh.Up, Cause: "heard", Endpoints: map[healthmesh.EndpointID]healthmesh.Endpoint{}}
	}
	for _, svc := range set.Services {
		if !svc.Checked {
			continue
		}
		for _, m := range svc.Members {
			var names []string
			if m.CNAME != "" {
				names = append(names, m.CNAME)
			}
			for _, a := range m.Addrs {
				names = append(names, a.String())
			}
			region := set.Regions[m.Region].Name
			for _, name := range names {
				view.Regions[region].Endpoints[healthmesh.ID(svc.Name, region, name)] = healthmesh.Endpoint{State: healthmesh.Down, Reason: "refused"}
			}
		}
	}
	return &Scene{
		Snapshot: steer.Build(steer.Input{Generation: 1, Survey: steer.NewSurvey(set, table), View: view}),
		Settings: settings(t, testConfig()), View: func() *healthmesh.View { return view }, Now: time.Unix(noon, 0),
	}
}

// resolver is where queries of these tests come from.
var resolver = netip.MustParseAddr("198.51.100.7")

// ask makes a query: "name type [+do] [+edns[=size]] [+version=n] [+ecs=prefix] [+nsid] [+cookie=hex] [+keepalive] [+padding=n] [+cd] [+rd] [+class=n]". A name
// without final dot is relative to geo.example.com.
func ask(t testing.TB, text string) []byte {
	t.Helper()
	f := strings.Fields(text)
	name := f[0]
	switch {
	case name == "@":
		name = "geo.example.com."
	case !strings.HasSuffix(name, "."):
		name += ".geo.example.com."
	}
	qtype, ok := dns.StringToType[f[1]]
	if _, err := fmt.Sscanf(f[1], "TYPE%d", &qtype); err != nil && !ok {
		t.Fatalf("%s: no type", f[1])
	}
	m := &dns.Msg{}
	m.SetQuestion(name, qtype)
	m.Id, m.RecursionDesired = 0xABCD, false
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(maxUDP)
	for _, flag := range f[2:] {
		key, value, _ := strings.Cut(flag, "=")
		n := 0
		if value != "" && key != "+ecs" && key != "+cookie" {
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatal(err)
			}
		}
		switch key {
		case "+rd":
			m.RecursionDesired = true
			continue
		case "+cd":
			m.CheckingDisabled = true
			continue
		case "+class":
			m.Question[0].Qclass = uint16(n)
			continue
		case "+edns":
			if n > 0 {
				opt.SetUDPSize(uint16(n))
			}
		case "+do":
			opt.SetDo()
		case "+version":
			opt.SetVersion(uint8(n))
		case "+ecs":
			p := netip.MustParsePrefix(value)
			family := uint16(1)
			if p.Addr().Is6() {
				family = 2
			}
			opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()})
		case "+nsid":
			opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		case "+cookie":
			opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: value})
		case "+keepalive":
			opt.Option = append(opt.Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
		case "+padding":
			opt.Option = append(opt.Option, &dns.EDNS0_PADDING{Padding: make([]byte, n)})
		default:
			t.Fatalf("%s: no flag", flag)
		}
		if m.IsEdns0() == nil {
			m.Extra = append(m.Extra, opt)
		}
	}
	q, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// parse parses a reply, which must be a message without trailing octets.
func parse(t testing.TB, b []byte) *dns.Msg {
	t.Helper()
	m := &dns.Msg{}
	if err := m.Unpack(b); err != nil {
		t.Fatalf("the reply does not parse: %v\n%x", err, b)
	}
	return m
}

// brief is a reply in words: rcode and flags, then the records of each section, then EDNS, parted by " | "; "-" is a section without.
func brief(m *dns.Msg) string {
	head := rcodeName(m.Rcode)
	for _, f := range []struct {
		name string
		set  bool
	}{{"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired}, {"ra", m.RecursionAvailable}, {"ad", m.AuthenticatedData}, {"cd", m.CheckingDisabled}} {
		if f.set {
			head += " " + f.name
		}
	}
	parts := []string{head, section(m.Answer), section(m.Ns), section(m.Extra)}
	for len(parts) > 1 && parts[len(parts)-1] == "-" {
		parts = parts[:len(parts)-1]
	}
	return strings.Join(parts, " | ")
}

// section is a section's records, sorted, with names relative to the zone.
func section(rrs []dns.RR) string {
	var texts []string
	for _, rr := range rrs {
		if opt, ok := rr.(*dns.OPT); ok {
			texts = append(texts, edns(opt))
			continue
		}
		text := strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(rr.String(), "\tIN\t", " ")), " "))
		text = strings.ReplaceAll(text, ".geo.example.com.", "")
		texts = append(texts, strings.ReplaceAll(text, "geo.example.com.", "@"))
	}
	if texts == nil {
		return "-"
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

func edns(o *dns.OPT) string {
	text := fmt.Sprintf("opt %d", o.UDPSize())
	if o.Version() != 0 {
		text += fmt.Sprintf(" version %d", o.Version())
	}
	if o.Do() {
		text += " do"
	}
	for _, option := range o.Option {
		switch e := option.(type) {
		case *dns.EDNS0_SUBNET:
			text += fmt.Sprintf(" ecs %s/%d/%d", e.Address, e.SourceNetmask, e.SourceScope)
		case *dns.EDNS0_EDE:
			text += fmt.Sprintf(" ede %d %s", e.InfoCode, e.ExtraText)
		case *dns.EDNS0_NSID:
			id, _ := hex.DecodeString(e.Nsid)
			text += " nsid " + string(id)
		case *dns.EDNS0_COOKIE:
			text += " cookie " + e.Cookie
		case *dns.EDNS0_TCP_KEEPALIVE:
			text += fmt.Sprintf(" keepalive %d", e.Timeout)
		case *dns.EDNS0_PADDING:
			text += fmt.Sprintf(" padding %d", len(e.Padding))
		default:
			text += fmt.Sprintf(" option %d", option.Option())
		}
	}
	return text
}
