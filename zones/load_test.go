package zones

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A world is a configuration that a test may spoil.
type world struct {
	regions []RegionConfig
	zones   []ZoneConfig
	files   map[string]string
}

var nan, inf = math.NaN(), math.Inf(1)

func ptr[T any](v T) *T { return &v }

func goodWorld() *world {
	return &world{
		regions: []RegionConfig{
			{Name: "us-east", Location: []float64{38.95, -77.45}, Capacity: 300},
			{Name: "eu-west", Location: []float64{53.35, -6.26}, Capacity: 200, BiasKM: 100},
		},
		zones: []ZoneConfig{{Name: "Geo.Example.com", File: "geo.zone", Services: []ServiceConfig{
			{Name: "WWW", TTL: 20, Answers: 2, BandKM: ptr(0.0), Checked: true, Regions: []MemberConfig{
				{Region: "eu-west", Addresses: []string{"2001:db8::1", "192.0.2.2", "192.0.2.1"}, Weight: ptr(7.0)},
				{Region: "us-east", Addresses: []string{"192.0.2.3"}},
			}},
			{Name: "*.apps", Steer: "weighted", Regions: []MemberConfig{{Region: "us-east", CNAME: "LB.us.example.net"}}},
			{Name: "@", Steer: "failover", Regions: []MemberConfig{{Region: "us-east", Addresses: []string{"192.0.2.3"}}}},
		}}},
		files: map[string]string{"geo.zone": head + "www TXT \"beside the service\"\nmail A 192.0.2.9\nalias CNAME www\ncut NS ns.cut\nns.cut A 192.0.2.8\n"},
	}
}

func (w *world) load(t *testing.T) (*Set, reports) {
	var r reports
	return Load(writeFiles(t, w.files), w.regions, w.zones, r.add), r
}

func TestLoad(t *testing.T) {
	s, r := goodWorld().load(t)
	if s == nil {
		t.Fatalf("refused: %q", r)
	}
	if got := fmt.Sprint(s.Regions); got != "[{us-east 38.95 -77.45 300 300 0} {eu-west 53.35 -6.26 200 200 100}]" {
		t.Errorf("regions %s", got)
	}
	if z := s.Zones[0]; z.Name != "geo.example.com." || string(z.Wire) != "\x03geo\x07example\x03com\x00" {
		t.Errorf("zone %s, wire %q", z.Name, z.Wire)
	}
	www, apps, apex := s.Services[0], s.Services[1], s.Services[2]
	if www.Name != "www.geo.example.com." || www.TTL != 20 || www.Answers != 2 || www.BandKM != 0 || www.Policy != Nearest || !www.Checked || www.CNAME {
		t.Errorf("www is %+v", www)
	}
	if m := www.Members[0]; m.Region != 1 || m.Weight != 7 || !slices.Equal(m.Addrs, []netip.Addr{
		netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}) {
		t.Errorf("www's first member is %+v: IPv4 comes first, else the order stays", m)
	}
	if m := www.Members[1]; m.Region != 0 || m.Weight != 300 {
		t.Errorf("www's second member is %+v: its weight is the region's capacity", m)
	}
	if apps.Name != "*.apps.geo.example.com." || apps.TTL != 30 || apps.Answers != 1 || apps.BandKM != 250 || apps.Policy != Weighted ||
		!apps.CNAME || apps.Members[0].CNAME != "lb.us.example.net." || apps.Index != 1 || apps.Zone != s.Zones[0] {
		t.Errorf("apps is %+v", apps)
	}
	for name, want := range map[string]*Service{
		"www.geo.example.com.": www, "any.apps.geo.example.com.": apps, "apps.geo.example.com.": nil, "geo.example.com.": apex, "mail.geo.example.com.": nil,
	} {
		if m := s.Find(wire(name)); m.Node == nil || m.Node.Service != want {
			t.Errorf("%s: %s, service %v", name, m.brief(), want)
		}
	}
	if www := s.Find(wire("www.geo.example.com.")).Node; len(www.Sets) != 1 {
		t.Errorf("beside www stand %d sets, want its TXT", len(www.Sets))
	}
}

func TestGuardsOfAService(t *testing.T) {
	w := goodWorld()
	w.zones[0].Services[0].MaxAutomaticRemoval, w.zones[0].Services[0].MinActive = 70, 2
	s, r := w.load(t)
	if s == nil {
		t.Fatalf("refused: %q", r)
	}
	if www, apps := s.Services[0], s.Services[1]; www.Removal != 70 || www.Active != 2 || apps.Removal != 50 || apps.Active != 1 {
		t.Errorf("%d %% and %d for www, %d %% and %d for apps; want 70, 2, and the defaults 50, 1", www.Removal, www.Active, apps.Removal, apps.Active)
	}
}

// A name has the types of its records and those of its service, of whichever region.
func TestTypes(t *testing.T) {
	w := goodWorld()
	w.zones[0].Services[0].Steer, w.zones[0].Services[0].BandKM = "failover", nil
	w.zones[0].Services[0].Regions[0].Addresses = []string{"192.0.2.2"}
	w.zones[0].Services[0].Regions[1].Addresses = []string{"2001:db8::1"}
	w.files["geo.zone"] += "cut DS 1 8 2 00\nx.mail A 192.0.2.1\n"
	s, r := w.load(t)
	if s == nil {
		t.Fatalf("refused: %q", r)
	}
	for name, want := range map[string]string{
		"www": "A TXT AAAA", "x.apps": "CNAME", "apps": "", "mail": "A", "cut": "NS DS", "x.cut": "NS DS", "alias": "CNAME",
	} {
		var got []string
		for _, t := range s.Find(wire(name + ".geo.example.com.")).Node.Types() {
			got = append(got, dns.Type(t).String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %s", name, got, want)
		}
	}
}

func TestZonesAloneAreAConfiguration(t *testing.T) {
	w := goodWorld()
	w.regions, w.zones[0].Services = nil, nil
	if s, r := w.load(t); s == nil {
		t.Errorf("refused: %q", r)
	}
}

func TestFilesAreTheZoneFilesAndWhatTheyInclude(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a.zone": head + "$INCLUDE sub/x\n$INCLUDE sub/x\n", "sub/x": "x A 192.0.2.1\n", "b.zone": head})
	s := Load(dir, nil, []ZoneConfig{{Name: "b", File: filepath.Join(dir, "b.zone")}, {Name: "a", File: "a.zone"}}, func(key string, value any, _ string) { t.Error(key, value) })
	want := []string{filepath.Join(dir, "a.zone"), filepath.Join(dir, "b.zone"), filepath.Join(dir, "sub/x")}
	if got := s.Files(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAZoneFileMayBeALinkToAnywhere(t *testing.T) {
	w := goodWorld()
	elsewhere := writeFiles(t, w.files)
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(elsewhere, "geo.zone"), filepath.Join(dir, "geo.zone")); err != nil {
		t.Fatal(err)
	}
	var r reports
	if Load(dir, w.regions, w.zones, r.add) == nil {
		t.Errorf("refused: %q", r)
	}
}

// Each case spoils one thing of a good configuration, and exactly one report follows.
func TestLoadTellsEachProblemOnce(t *testing.T) {
	const svc, member = "zones[0].services[0]", "zones[0].services[0].regions[0]"
	text := func(add string) func(*world) { return func(w *world) { w.files["geo.zone"] += add } }
	service := func(f func(*ServiceConfig)) func(*world) { return func(w *world) { f(&w.zones[0].Services[0]) } }
	addresses := func(a ...string) func(*world) {
		return func(w *world) { w.zones[0].Services[0].Regions[0].Addresses = a }
	}
	for _, c := range []struct {
		spoil func(*world)
		want  string // how the report starts
	}{
		{func(w *world) { w.regions[1].Name, w.zones[0].Services[0].Regions[0].Region = "EU", "EU" }, "regions[1].name = EU: 1 to 63 of"},
		{func(w *world) { w.regions = append(w.regions, w.regions[0]) }, "regions[2].name = us-east: each region once"},
		{func(w *world) { w.regions[0].Capacity = 0 }, "regions[0].capacity = 0: a number above 0"},
		{func(w *world) { w.regions[0].Capacity = nan }, "regions[0].capacity = NaN: "},
		{func(w *world) { w.regions[0].Capacity = inf }, "regions[0].capacity = +Inf: "},
		{func(w *world) { w.regions[0].MaxCapacity = new(299.) }, "regions[0].max_capacity = 299: a number from the region's capacity on"},
		{func(w *world) { w.regions[0].MaxCapacity = &inf }, "regions[0].max_capacity = +Inf: "},
		{func(w *world) { w.regions[0].BiasKM = -20001 }, "regions[0].bias_km = -20001: -20000 to 20000"},
		{func(w *world) { w.regions[0].BiasKM = nan }, "regions[0].bias_km = NaN: "},
		{func(w *world) { w.regions[0].Location = []float64{90.1, 0} }, "regions[0].location = [90.1 0]: [latitude, longitude]"},
		{func(w *world) { w.regions[0].Location = []float64{0, nan} }, "regions[0].location = [0 NaN]: "},
		{func(w *world) { w.regions[0].Location = []float64{1} }, "regions[0].location = [1]: "},
		{func(w *world) { w.regions[0].Location = nil }, "regions[0].location = []: "},

		{service(func(c *ServiceConfig) { c.ECS = "yes" }), svc + ".ecs = yes: on or off"},
		{text("h HTTPS 1 nobody ipv4hint=0.0.0.0\n"), "zones[0].file = geo.zone:"},
		{text("h HTTPS 1 www.example.net. ipv6hint=::\n"), "zones[0].file = geo.zone:"},
		{text("d DNAME mail\nd A 192.0.2.1\nh HTTPS 1 x.d ipv4hint=0.0.0.0\n"), "zones[0].file = geo.zone:11: hints of x.d.geo.example.com., which has no addresses here"},
		{text("h HTTPS 1 mail mandatory=ipv4hint ipv4hint=0.0.0.0\n"), "zones[0].file = geo.zone:9: hints of mail.geo.example.com. that are mandatory"},
		{text("h HTTPS 1 mail mandatory=alpn,port port=1\n"), "zones[0].file = geo.zone:9: HTTPS at h.geo.example.com. without its mandatory alpn: each mandatory"},
		{text("x RRSIG A 8 2 300 20300101000000 20200101000000 1 geo.example.com. AAAA\nx NSEC a A\n"), "zones[0].file = geo.zone:9: RRSIG at x.geo.example.com.: nearcast serves no signatures yet"},
		{text("@ NSEC3PARAM 1 0 0 -\n"), "zones[0].file = geo.zone:9: NSEC3PARAM at geo.example.com.: nearcast"},

		{func(w *world) { w.zones[0].Name = "" }, "zones[0].name = : a domain name"},
		{func(w *world) { w.zones[0].Name = "a b" }, "zones[0].name = a b: a domain name"},
		{func(w *world) { w.zones[0].Name = "a..b" }, "zones[0].name = a..b: a domain name"},
		{func(w *world) { w.zones[0].Name = "*.example" }, "zones[0].name = *.example: a name without"},
		{func(w *world) { w.zones = append(w.zones, ZoneConfig{Name: "geo.example.COM.", File: "geo.zone"}) }, "zones[1].name = geo.example.COM.: each zone once"},
		{func(w *world) { w.zones[0].File = "" }, "zones[0].file = : the zone's file"},
		{func(w *world) { w.zones[0].File = "none/geo.zone" }, "zones[0].file = none/geo.zone: no such file or directory: a zone file that can be read"},
		{func(w *world) { w.zones[0].File = "none.zone" }, "zones[0].file = none.zone: no such file or directory: "},
		{func(w *world) { w.zones[0].File = "." }, "zones[0].file = .: not a regular file: "},

		{service(func(s *ServiceConfig) { s.Name = "" }), svc + ".name = : a name relative to geo.example.com."},
		{service(func(s *ServiceConfig) { s.Name = "www.geo.example.com." }), svc + ".name = www.geo.example.com.: a name relative to"},
		{service(func(s *ServiceConfig) { s.Name = "w$w" }), svc + ".name = w$w: a domain name of letters"},
		{service(func(s *ServiceConfig) { s.Name = "a.*.b" }), svc + ".name = a.*.b: a domain name of letters"},
		{service(func(s *ServiceConfig) { s.Name = strings.Repeat("a.", 120) + "a" }), svc + ".name = a.a."},
		{service(func(s *ServiceConfig) { s.Name = "@" }), "zones[0].services[2].name = @: each service once"},
		{service(func(s *ServiceConfig) { s.Name = "mail" }), svc + ".name = mail: a name without A records in the zone file"},
		{service(func(s *ServiceConfig) { s.Name = "alias" }), svc + ".name = alias: a name without CNAME records"},
		{service(func(s *ServiceConfig) { s.Name = "cut" }), svc + ".name = cut: a name that is not delegated; the zone file delegates cut.geo.example.com."},
		{service(func(s *ServiceConfig) { s.Name = "x.ns.cut" }), svc + ".name = x.ns.cut: a name that is not delegated"},
		{func(w *world) { w.zones[0].Services[1].Name = "www"; w.zones[0].Services[0].Name = "x" }, "zones[0].services[1].name = www: a name without TXT records"},
		{func(w *world) { w.zones[0].Services[1].Name = "@"; w.zones[0].Services[2].Name = "x" }, "zones[0].services[1].name = @: a name below the apex"},
		{func(w *world) {
			w.zones = append(w.zones, ZoneConfig{Name: "in.geo.example.com", File: "in.zone"})
			w.files["in.zone"] = head
			w.zones[0].Services[0].Name = "www.in"
		}, svc + ".name = www.in: a name of this zone; it is in the zone in.geo.example.com."},
		{service(func(s *ServiceConfig) { s.TTL = -1 }), svc + ".ttl = -1: 1 to 86400"},
		{service(func(s *ServiceConfig) { s.TTL = 86401 }), svc + ".ttl = 86401: 1 to 86400"},
		{service(func(s *ServiceConfig) { s.Answers = 9 }), svc + ".answers = 9: 1 to 8"},
		{service(func(s *ServiceConfig) { s.MaxAutomaticRemoval = 101 }), svc + ".max_automatic_removal = 101: 1 to 100 percent"},
		{service(func(s *ServiceConfig) { s.MaxAutomaticRemoval = -1 }), svc + ".max_automatic_removal = -1: 1 to 100 percent"},
		{service(func(s *ServiceConfig) { s.MinActive = 3 }), svc + ".min_active = 3: 1 to 2, the number of the service's regions"},
		{service(func(s *ServiceConfig) { s.MinActive = -1 }), svc + ".min_active = -1: 1 to 2, the number of the service's regions"},
		{service(func(s *ServiceConfig) { s.Regions[1].Addresses = s.Regions[0].Addresses[:1] }), svc + ".regions[1].addresses = "},
		{service(func(s *ServiceConfig) { s.BandKM = ptr(-1.0) }), svc + ".band_km = -1: 0 to 20000"},
		{service(func(s *ServiceConfig) { s.BandKM = ptr(nan) }), svc + ".band_km = NaN: 0 to 20000"},
		{service(func(s *ServiceConfig) { s.Steer = "failover" }), svc + ".band_km = 0: band_km with steer nearest only"},
		{service(func(s *ServiceConfig) { s.Steer = "closest" }), svc + ".steer = closest: nearest, failover or weighted"},
		{service(func(s *ServiceConfig) { s.Steer = "sticky" }), svc + ".steer = sticky: nearest, failover or weighted; sticky is not available yet"},
		{service(func(s *ServiceConfig) { s.Regions = nil }), svc + ".regions = []: at least one region"},
		{service(func(s *ServiceConfig) { s.Regions[1].Region = "moon" }), svc + ".regions[1].region = moon: a region of this file"},
		{service(func(s *ServiceConfig) { s.Regions = s.Regions[:1]; s.Regions[0].Region = "moon" }), member + ".region = moon: a region of this file"},
		{service(func(s *ServiceConfig) { s.Regions[1].Region = "eu-west" }), svc + ".regions[1].region = eu-west: each region once in a service"},
		{service(func(s *ServiceConfig) { s.Regions[0].Weight = ptr(0.0) }), member + ".weight = 0: a number above 0"},
		{service(func(s *ServiceConfig) { s.Regions[0].Weight = ptr(nan) }), member + ".weight = NaN: "},
		{service(func(s *ServiceConfig) { s.Regions[0].Addresses = nil }), member + ".addresses = []: addresses or a cname"},
		{service(func(s *ServiceConfig) { s.Regions[0].CNAME = "a.test" }), member + ".cname = a.test: either addresses or cname"},
		{service(func(s *ServiceConfig) { s.Regions[1] = MemberConfig{Region: "us-east", CNAME: "a.test"} }), svc + ".regions[1].cname = a.test: addresses, as"},
		{func(w *world) {
			s := &w.zones[0].Services[1]
			s.Regions = append(s.Regions, MemberConfig{Region: "eu-west", Addresses: []string{"192.0.2.1"}})
		}, "zones[0].services[1].regions[1].addresses = [192.0.2.1]: a cname, as"},
		{func(w *world) { w.zones[0].Services[1].Regions[0].CNAME = "a b" }, "zones[0].services[1].regions[0].cname = a b: a domain name"},
		{func(w *world) { w.zones[0].Services[1].Regions[0].CNAME = "*.a" }, "zones[0].services[1].regions[0].cname = *.a: a host name without"},
		{func(w *world) {
			w.zones[0].Services[1].Name = "apps"
			w.zones[0].Services[1].Regions[0].CNAME = "APPS.geo.example.com"
		}, "zones[0].services[1].regions[0].cname = APPS.geo.example.com: a name other than the service's own"},
		{addresses("192.0.2.300"), member + ".addresses[0] = 192.0.2.300: an IPv4 or IPv6 address"},
		{addresses("192.0.2.1", "host"), member + ".addresses[1] = host: an IPv4 or IPv6 address"},
		{addresses("fe80::1%eth0"), member + ".addresses[0] = fe80::1%eth0: an address without a zone"},
		{addresses("0.0.0.0"), member + ".addresses[0] = 0.0.0.0: the address of a host"},
		{addresses("ff02::1"), member + ".addresses[0] = ff02::1: the address of a host"},
		{addresses("::ffff:192.0.2.1"), member + ".addresses[0] = ::ffff:192.0.2.1: the IPv4 address itself, 192.0.2.1"},
		{addresses("2001:db8::1", "2001:DB8:0::1"), member + ".addresses[1] = 2001:DB8:0::1: each address once"},
		{addresses(slices.Repeat([]string{"192.0.2.1"}, 33)...), member + ".addresses = 33 addresses: at most 32"},

		{text("foo.test. A 192.0.2.1\n"), "zones[0].file = geo.zone:9: foo.test. is outside the zone: names in geo.example.com."},
		{text("x A 192.0.2\n"), `zones[0].file = geo.zone:9: bad A A: "192.0.2": an entry`},
		{text("mail CNAME www\n"), "zones[0].file = geo.zone:5: A beside the CNAME at mail.geo.example.com.: a CNAME and no other data"},
		{text("@ CNAME www\n"), "zones[0].file = geo.zone:"},
		{text("alias CNAME mail\n"), "zones[0].file = geo.zone:9: 2 CNAME records at alias.geo.example.com.: one"},
		{text("x DNAME a.test.\nx DNAME b.test.\n"), "zones[0].file = geo.zone:10: 2 DNAME records"},
		{text("@ SOA ns.example.net. host 2 3600 600 604800 30\n"), "zones[0].file = geo.zone:9: 2 SOA records at geo.example.com.: one"},
		{text("x SOA ns.example.net. host 2 3600 600 604800 30\n"), "zones[0].file = geo.zone:9: SOA at x.geo.example.com.: SOA only at"},
		{text("*.x NS a.test.\n"), "zones[0].file = geo.zone:9: NS at the wildcard *.x.geo.example.com.: "},
		{text("@ NS ns1\n"), "zones[0].file = geo.zone:9: name server ns1.geo.example.com. has no address in the zone"},
		{text("@ NS alias\n"), "zones[0].file = geo.zone:9: name server alias.geo.example.com. has no address in the zone"},
		{text("$GENERATE 0-5500 x A 10.0.${0}.1\n"), `zones[0].file = geo.zone:9: bad`},
		{text(bigSet(5500)), "zones[0].file = geo.zone:9: 5500 records of one name and type: at most"},
		{text(bigSet(4500)), "zones[0].file = geo.zone:9: packing big.geo.example.com.: the records together exceed"},
		{func(w *world) { w.files["geo.zone"] = "@ 60 NS a.test.\n" }, "zones[0].file = geo.zone: no SOA record: one SOA at geo.example.com."},
		{func(w *world) { w.files["geo.zone"] = "@ 60 SOA a.test. b.test. 1 2 3 4 5\n" }, "zones[0].file = geo.zone: no NS record at the apex: "},
		{func(w *world) {
			w.zones[0].File = "sub/zone"
			w.files["sub/zone"] = head + "$INCLUDE more/inc\n"
			w.files["sub/more/inc"] = "\nx A 1.2.3\n"
		}, `zones[0].file = sub/more/inc:2: bad A A: "1.2.3": `},
	} {
		w := goodWorld()
		c.spoil(w)
		s, r := w.load(t)
		if s != nil || len(r) != 1 || !strings.HasPrefix(r[0], c.want) {
			t.Errorf("set %v, reports:\n%s\nwant one: %s", s != nil, strings.Join(r, "\n"), c.want)
		}
	}
}

// bigSet is one RRset of n addresses.
func bigSet(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "big A 10.0.%d.%d\n", i>>8, i&255)
	}
	return b.String()
}

func TestLoadTellsAllProblemsTogether(t *testing.T) {
	w := goodWorld()
	w.regions[0].Capacity = -1
	w.zones[0].Services[0].TTL = -1
	w.zones[0].Services[0].Regions[0].Addresses[1] = "x"
	w.zones[0].Services[1].Name = "mail"
	w.files["geo.zone"] += "foo.test. A 192.0.2.1\ny A 1.2.3\n$INCLUDE ../x\n"
	w.zones = append(w.zones, ZoneConfig{Name: "other", File: "missing"})
	_, r := w.load(t)
	var keys []string
	for _, s := range r {
		key, _, _ := strings.Cut(s, " = ")
		keys = append(keys, key)
	}
	want := []string{"regions[0].capacity", "zones[0].file", "zones[0].file", "zones[0].file", "zones[1].file",
		"zones[0].services[0].ttl", "zones[0].services[0].regions[0].addresses[1]"}
	if !slices.Equal(keys, want) { // that "mail" collides cannot be told while its zone's file is wrong
		t.Errorf("reports:\n%s\nwant keys %q", strings.Join(r, "\n"), want)
	}
}
