package geo

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// A row is a network and its record.
type row struct {
	network string
	record  mmdbtype.Map
}

// writeDatabase makes a .mmdb file.
func writeDatabase(t testing.TB, path, kind string, rows ...row) {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: kind, IncludeReservedNetworks: true, Description: map[string]string{"en": "made by a test"}, BuildEpoch: 1780000000,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		_, network, err := net.ParseCIDR(r.network)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Insert(network, r.record); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func text(s string) mmdbtype.String { return mmdbtype.String(s) }

// nested is a record of MaxMind's City layout.
func nested(country, subdivision string, lat, lon float64) mmdbtype.Map {
	m := mmdbtype.Map{
		"country":  mmdbtype.Map{"iso_code": text(country)},
		"location": mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)},
	}
	if subdivision != "" {
		m["subdivisions"] = mmdbtype.Slice{mmdbtype.Map{"names": mmdbtype.Map{"en": text(subdivision)}}}
	}
	return m
}

// load loads and returns the problems as lines.
func load(cfg Config, dir string, sites []Site, prev *Table) (*Table, []string) {
	var problems []string
	t := Load(cfg, dir, sites, prev, func(key string, value any, accepted string) {
		problems = append(problems, fmt.Sprintf("%s: %v: %s", key, value, accepted))
	})
	return t, problems
}

func mustLoad(t testing.TB, cfg Config, dir string, sites ...Site) *Table {
	t.Helper()
	table, problems := load(cfg, dir, sites, nil)
	if problems != nil {
		t.Fatal(strings.Join(problems, "\n"))
	}
	return table
}

// place is a location and its network in short.
func place(t *Table, addr string) string {
	l, network := t.Locate(netip.MustParseAddr(addr))
	s := fmt.Sprintf("%s %s/%s/%s", network, l.Continent, l.Country, l.Subdivision)
	if l.Known {
		s += fmt.Sprintf(" %.2f,%.2f", l.Lat, l.Lon)
	}
	if l.Region != "" {
		s += " " + l.Region
	}
	return s
}

// Every vendor's layout is read alike.
func TestLayouts(t *testing.T) {
	centre, ok := countryCentre("AU")
	if !ok {
		t.Fatal("Australia has no centre")
	}
	au := fmt.Sprintf("OC/AU/ %.2f,%.2f", centre.Lat, centre.Lon)
	for name, c := range map[string]struct {
		record mmdbtype.Map
		want   string
	}{
		"MaxMind City":                 {nested("AU", "Victoria", -37.81, 144.96), "OC/AU/Victoria -37.81,144.96"},
		"MaxMind City, middle of land": {nested("AU", "", -27, 133), au},
		"MaxMind City, no location":    {mmdbtype.Map{"country": mmdbtype.Map{"iso_code": text("AU")}}, au},
		"MaxMind Country": {mmdbtype.Map{
			"continent": mmdbtype.Map{"code": text("OC")}, "country": mmdbtype.Map{"iso_code": text("AU")}}, au},
		"MaxMind, registered only": {mmdbtype.Map{
			"continent": mmdbtype.Map{"code": text("EU")}, "registered_country": mmdbtype.Map{"iso_code": text("AU")}}, au},
		"ip-location-db": {mmdbtype.Map{"country_code": text("AU"), "state1": text("Victoria"), "city": text("Melbourne"),
			"latitude": mmdbtype.Float32(-37.81), "longitude": mmdbtype.Float32(144.96)}, "OC/AU/Victoria -37.81,144.96"},
		"IPinfo, numbers": {mmdbtype.Map{"country": text("AU"), "region": text("34"), "region_name": text("Victoria"),
			"latitude": mmdbtype.Float64(-37.81), "longitude": mmdbtype.Float64(144.96)}, "OC/AU/Victoria -37.81,144.96"},
		"IPinfo, text": {mmdbtype.Map{"country": text("Australia"), "country_code": text("AU"), "continent": text("Oceania"),
			"continent_code": text("OC"), "region": text("Victoria"), "lat": text("-37.81"), "lng": text("144.96")}, "OC/AU/Victoria -37.81,144.96"},
		"IPinfo Lite": {mmdbtype.Map{"country": text("Australia"), "country_code": text("AU"), "continent_code": text("OC")}, au},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db.mmdb")
			writeDatabase(t, path, "a type that nobody knows", row{"203.0.113.0/24", c.record}, row{"2001:db8::/32", c.record})
			table := mustLoad(t, Config{Database: []string{path}}, "")
			for addr, network := range map[string]string{"203.0.113.9": "203.0.113.0/24", "2001:db8:1::9": "2001:db8::/32"} {
				if got := place(table, addr); got != network+" "+c.want {
					t.Errorf("%s: %s, want %s", addr, got, c.want)
				}
			}
			s := table.Sources()
			if len(s) != 1 || s[0].Networks != 2 || s[0].Located != 1 || s[0].Built.Unix() != 1780000000 {
				t.Errorf("sources %+v", s)
			}
		})
	}
}

// Equal neighbours share a network; what has no record is unknown.
func TestLocateGivesTheWidestNetwork(t *testing.T) {
	dir := t.TempDir()
	writeDatabase(t, filepath.Join(dir, "a.mmdb"), "City",
		row{"198.51.100.0/25", nested("FR", "X", 48, 2)}, row{"198.51.100.128/25", nested("FR", "X", 48, 2)},
		row{"203.0.113.0/24", nested("DE", "Y", 50, 8)})
	writeDatabase(t, filepath.Join(dir, "b.mmdb"), "City",
		row{"203.0.112.0/23", nested("IT", "Z", 42, 12)}, row{"192.0.2.0/24", nested("IT", "Z", 42, 12)})
	table := mustLoad(t, Config{Database: []string{"a.mmdb", "b.mmdb"}}, dir)
	for addr, want := range map[string]string{
		"198.51.100.200": "198.51.100.0/24 EU/FR/X 48.00,2.00",
		"203.0.113.1":    "203.0.113.0/24 EU/DE/Y 50.00,8.00",
		"203.0.112.1":    "203.0.112.0/24 EU/IT/Z 42.00,12.00", // the second file fills what the first leaves
		"192.0.2.1":      "192.0.2.0/24 EU/IT/Z 42.00,12.00",
		"1.1.1.1":        "0.0.0.0/1 //",
		"2a00::1":        "::/0 //",
	} {
		if got := place(table, addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestRefusedDatabases(t *testing.T) {
	dir := t.TempDir()
	var rows []row
	for i := range 100 {
		rows = append(rows, row{fmt.Sprintf("20.%d.0.0/16", i), nested("FR", "X", 40+float64(i%7), 2)})
	}
	path := filepath.Join(dir, "db.mmdb")
	cfg := Config{Database: []string{"db.mmdb"}}
	writeDatabase(t, path, "City", rows...)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table := mustLoad(t, cfg, dir)
	flipped := slices.Clone(good)
	for i := range 400 {
		flipped[i] ^= 0x5a
	}
	for name, c := range map[string]struct {
		write func()
		want  string
	}{
		"missing":   {func() { os.Remove(path) }, "no such file"},
		"empty":     {func() { os.WriteFile(path, nil, 0o600) }, "not a MaxMind DB"},
		"text":      {func() { os.WriteFile(path, []byte("hello"), 0o600) }, "not a MaxMind DB"},
		"cut":       {func() { os.WriteFile(path, good[len(good)/2:], 0o600) }, ""},
		"corrupt":   {func() { os.WriteFile(path, flipped, 0o600) }, ""},
		"no places": {func() { writeDatabase(t, path, "ASN", row{"20.0.0.0/16", mmdbtype.Map{"asn": text("AS1")}}) }, "without countries and positions"},
		"no networks": {func() { writeDatabase(t, path, "City") },
			"without countries and positions"},
		"unknown countries": {func() {
			writeDatabase(t, path, "City", row{"20.0.0.0/16", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": text("QQ")}}})
		}, "none of its 1 networks has a position"},
		"much smaller": {func() { writeDatabase(t, path, "City", rows[:49]...) }, "less than half of the 100"},
	} {
		c.write()
		got, problems := load(cfg, dir, nil, table)
		if got != nil || len(problems) != 1 || !strings.HasPrefix(problems[0], "geo.database: db.mmdb: ") || !strings.Contains(problems[0], c.want) {
			t.Errorf("%s: %v", name, problems)
		}
	}
	writeDatabase(t, path, "City", rows[:50]...)
	if _, problems := load(cfg, dir, nil, table); problems != nil {
		t.Errorf("half of the networks: %v", problems)
	}
}

func TestOverrides(t *testing.T) {
	dir := t.TempDir()
	write := func(s string) {
		if err := os.WriteFile(filepath.Join(dir, "o.csv"), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeDatabase(t, filepath.Join(dir, "a.mmdb"), "City", row{"203.0.0.0/16", nested("FR", "X", 48, 2)})
	cfg := Config{Database: []string{"a.mmdb"}, Overrides: "o.csv"}
	sites := []Site{{Name: "eu-west", Point: Point{53.35, -6.26}}, {Name: "us-east", Point: Point{38.95, -77.45}}}
	write(`# who is where
203.0.113.0/24, eu-west   # an office
203.0.112.0/22,19.08,72.88
203.0.113.128/25,us-east
255.255.255.0/24,us-east
192.0.2.1,eu-west
2001:db8:cafe::/48,us-east
2001:db8::/32,-33,151
`)
	table := mustLoad(t, cfg, dir, sites...)
	for addr, want := range map[string]string{
		"203.0.113.1":       "203.0.113.0/25 // 53.35,-6.26 eu-west",
		"203.0.113.129":     "203.0.113.128/25 // 38.95,-77.45 us-east",
		"203.0.114.1":       "203.0.114.0/23 // 19.08,72.88",
		"203.0.112.1":       "203.0.112.0/24 // 19.08,72.88",
		"203.0.116.1":       "203.0.116.0/22 EU/FR/X 48.00,2.00",
		"255.255.255.255":   "255.255.255.0/24 // 38.95,-77.45 us-east",
		"192.0.2.1":         "192.0.2.1/32 // 53.35,-6.26 eu-west",
		"2001:db8:cafe:1::": "2001:db8:cafe::/48 // 38.95,-77.45 us-east",
		"2001:db8:1::":      "2001:db8::/33 // -33.00,151.00",
	} {
		if got := place(table, addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	write("x,eu-west\n203.0.113.1/24,eu-west\n203.0.113.0/24,mars\n203.0.113.0/24,91,0\n203.0.113.0/24\n::ffff:1.2.3.4,eu-west\n" +
		"2001:db8::/65,eu-west\n198.51.100.0/24,eu-west\n198.51.100.0/24,us-east\n1.0.0.0/8,1,2,3\n")
	_, problems := load(cfg, dir, sites, nil)
	want := []string{
		`geo.overrides: o.csv:1: "x": a network such as`, `o.csv:2: 203.0.113.1/24: 203.0.113.0/24, or a longer prefix`, `o.csv:3: "mars": a region of the configuration`,
		`o.csv:4: 91,0: latitude`, `o.csv:5: "203.0.113.0/24": network,region or`, `o.csv:6: ::ffff:1.2.3.4: an IPv4 network in its own form`,
		`o.csv:7: 2001:db8::/65: IPv6 networks of at most 64`, `o.csv:9: 198.51.100.0/24: each network once; it stands in line 8`, `o.csv:10: "1.0.0.0/8,1,2,3": network,region`,
	}
	if len(problems) != len(want) {
		t.Fatalf("%d problems, want %d:\n%s", len(problems), len(want), strings.Join(problems, "\n"))
	}
	for i := range want {
		if !strings.Contains(problems[i], want[i]) {
			t.Errorf("%s, want %s", problems[i], want[i])
		}
	}
}

// Whatever stands in an overrides file, it is read or refused with a line, and what is read is what Locate gives.
func FuzzOverrides(f *testing.F) {
	f.Add("203.0.113.0/24,eu-west\n203.0.113.128/25,1,2\n::/0,eu-west\n0.0.0.0/0,3,4\n255.255.255.255,eu-west")
	f.Add("2001:db8::/64,eu-west\n2001:db8::/32,0,0\n#\n,,")
	dir := f.TempDir()
	path := filepath.Join(dir, "o.csv")
	sites := []Site{{Name: "eu-west", Point: Point{53, -6}}}
	f.Fuzz(func(t *testing.T, s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		g := newGazetteer()
		refused := 0
		c := readOverrides(path, sites, g, func(line int, found, accepted string) { refused++ })
		if c == nil {
			return
		}
		table := &Table{places: g.places, net4: c.net4.finish(), net6: c.net6.finish()}
		if refused > 0 {
			return
		}
		narrowest := map[netip.Addr]netip.Prefix{}
		var networks []netip.Prefix
		for line := range strings.Lines(s) {
			text, _, _ := strings.Cut(line, "#")
			text, _, _ = strings.Cut(text, ",")
			text = strings.TrimSpace(text)
			if p, err := netip.ParsePrefix(text); err == nil {
				networks = append(networks, p)
			} else if a, err := netip.ParseAddr(text); err == nil {
				networks = append(networks, netip.PrefixFrom(a, a.BitLen()))
			}
		}
		for _, p := range networks {
			for _, q := range networks {
				if best, ok := narrowest[p.Addr()]; q.Contains(p.Addr()) && (!ok || q.Bits() > best.Bits()) {
					narrowest[p.Addr()] = q
				}
			}
		}
		for addr, p := range narrowest {
			if l, network := table.Locate(addr); !l.Known || network.Bits() < p.Bits() && len(networks) == 1 {
				t.Errorf("%s, in %s: %+v %s", addr, p, l, network)
			}
		}
	})
}
