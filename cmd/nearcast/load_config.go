package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/miekg/dns"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/nearcast/nearcast/dnsserver"
	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
	"github.com/nearcast/nearcast/zones"
)

// maxConfig bounds the configuration file: 10,000 services of ten regions have some 10 MiB.
const maxConfig = 64 << 20

func errTokenLength(n int) error { return fmt.Errorf("a token of %d bytes", n) }

// A source is where a node's configuration comes from, and what of it the node needs.
type source struct {
	path  string
	over  overrides // flags that go before the file
	agent string    // the region that the node is an agent of, "" for a director: then geography is needed
}

// loaded is a configuration in use: all of it was found good. Immutable.
type loaded struct {
	Config
	Set    *zones.Set
	Files  []string             // that it was read from
	seen   string               // stamp of Files; "" if one of them changed while it was read
	table  *geo.Table           // nil for an agent
	dns    *dnsserver.Settings  // nil for an agent
	stamp  string               // of what the table was made from
	checks [][]healthmesh.Check // by position in Set.Services
	needs  []int                // likewise: how many of checks must succeed, 0 for all
	token  string               // that orders from other hosts bear, "" if there is none
	keyed  string               // stamp of the mesh's key file and of the identity's
	plan   *healthmesh.Plan     // of the whole file
	self   *healthmesh.Identity

	dir           string // what paths are relative to, absolute
	regionConfigs []zones.RegionConfig
	zoneConfigs   []zones.ZoneConfig // by position in Zones, each with its content
	own           int                // so many of Zones are the file's; the rest are members of catalogs
	positions     map[string]int     // of zones by absolute name, lower case
	leftOut       []string           // what catalogs name and cannot be served, with the reason
}

// load reads and checks the file and all that it names; every problem is in the error. prev is what is in
// use, nil at start: what did not change is taken over from it.
func (s source) load(prev *loaded) (*loaded, error) {
	began := time.Now()
	d, c, err := parseConfig(s.path)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	s.over.apply(c)
	c.validate(dir, d.report)
	if !reflect.ValueOf(c.Mesh).IsZero() {
		c.Mesh = c.Mesh.Validate("mesh", dir, d.report)
	}
	l := &loaded{Files: []string{s.path}, dir: dir}
	var keys healthmesh.KeyLists
	l.plan = &healthmesh.Plan{Directors: keys.Validate("mesh.directors", c.Mesh.Directors, d.report)}
	if c.Mesh.Witnesses != nil {
		l.plan.Witnesses = *c.Mesh.Witnesses
	}
	for i := range c.Regions {
		r := &c.Regions[i]
		r.Load = r.Load.Validate(keyOf("regions", i)+".load", d.report)
		r.Backends = r.Backends.Validate(keyOf("regions", i)+".backends", dir, d.report)
		l.plan.Regions = append(l.plan.Regions, healthmesh.PlanRegion{
			Name: r.Name, Capacity: r.maxCapacity(), Keys: keys.Validate(keyOf("regions", i)+".agent_keys", r.AgentKeys, d.report),
		})
		l.regionConfigs = append(l.regionConfigs, r.RegionConfig)
	}
	c.validateCatalogs(d.report)
	l.zoneConfigs = l.zones(c, d)
	l.Config, l.own = *c, len(c.Zones)
	l.assemble(prev.reread(), prev, d.report)
	if l.Set != nil {
		l.Files = append(l.Files, l.Set.Files()...)
		for _, r := range l.Regions {
			l.plan.Targets = append(l.plan.Targets, l.targets(r.Name)...)
		}
	}
	l.loadSecrets(d.report)
	s.need(l, d)
	if s.agent == "" {
		l.loadGeo(dir, prev, d.report)
		l.dns = c.DNS.Compile("dns", dir, l.dnsZones(), d.report)
		l.Files = append(l.Files, l.dns.Files()...)
		l.separate(d.report)
	}
	if !changedSince(l.Files, began) {
		l.seen = stampFiles(l.Files)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return l, nil
}

// loadSecrets reads the token, and notes which version of the mesh's key there is.
func (l *loaded) loadSecrets(report zones.Reporter) {
	if file := l.AdminTokenFile; file != "" {
		var err error
		if l.token, err = l.Config.token(); err != nil {
			report("admin_token_file", file+": "+err.Error(), "a file with a token of 16 to 256 bytes")
		}
		l.Files = append(l.Files, file)
	}
	for _, file := range []string{l.Mesh.KeyFile, l.Mesh.Identity} {
		if file != "" {
			l.Files = append(l.Files, file)
			l.keyed += stampFiles([]string{file})
		}
	}
	var err error
	if l.self, err = healthmesh.LoadIdentity(l.Mesh.Identity); err != nil {
		report("mesh.identity", l.Mesh.Identity, `a file made by "nearcast keygen agent": `+err.Error())
	}
}

// assemble makes the set of the file's zones, with contents from content, and of the members of catalogs. prev is what is in use,
// nil at start.
func (l *loaded) assemble(content func(z zones.ZoneConfig, path string) *zones.Content, prev *loaded, report zones.Reporter) {
	l.Zones, l.zoneConfigs = slices.Clone(l.Zones[:l.own]), slices.Clone(l.zoneConfigs[:l.own])
	fill := func(all []zones.ZoneConfig) {
		for i, z := range all {
			if z.File != "" {
				all[i].Content = content(z, absolute(l.dir, z.File))
			}
		}
	}
	fill(l.zoneConfigs)
	inUse := map[string]bool{}
	if prev != nil {
		for _, file := range prev.copies() {
			inUse[file] = true
		}
	}
	l.leftOut = l.addMembers(func(file string) bool {
		_, err := os.Stat(file)
		return inUse[file] || err == nil
	})
	fill(l.zoneConfigs[l.own:])
	l.positions = map[string]int{}
	for i, z := range l.zoneConfigs {
		l.positions[dns.CanonicalName(z.Name)] = i
	}
	l.Set = zones.Load(l.dir, l.regionConfigs, l.zoneConfigs, report)
}

// contents are the contents in use.
func (l *loaded) contents() map[contentKey]*zones.Content {
	all := map[contentKey]*zones.Content{}
	if l != nil {
		for _, z := range l.zoneConfigs {
			all[contentKey{z.Name, absolute(l.dir, z.File)}] = z.Content
		}
	}
	return all
}

// A contentKey tells contents apart: a file may serve several zones.
type contentKey struct{ zone, path string }

// reread gives contents as the files are now: those in use, where the files stayed as they were. A copy that went bad is worse than
// what is in use.
func (l *loaded) reread() func(z zones.ZoneConfig, path string) *zones.Content {
	in := l.contents()
	return func(z zones.ZoneConfig, path string) *zones.Content {
		have := in[contentKey{z.Name, path}]
		if have != nil && !have.Changed() {
			return have
		}
		now := zones.ReadContent(path, dns.CanonicalName(z.Name))
		if z.Fed && have != nil && have.IsGood() && !now.IsGood() && !now.IsMissing() {
			return have
		}
		return now
	}
}

func changedSince(files []string, t time.Time) bool {
	return slices.ContainsFunc(files, func(f string) bool {
		info, err := os.Stat(f)
		if errors.Is(err, fs.ErrNotExist) {
			return false // a copy that is not there yet
		}
		return err != nil || info.ModTime().After(t.Add(-zones.ClockGrain))
	})
}

// zones validates the checks, and gives the zones as their room wants them.
func (l *loaded) zones(c *Config, d *document) []zones.ZoneConfig {
	var all []zones.ZoneConfig
	for i, z := range c.Zones {
		for j, svc := range z.Services {
			checks := svc.validChecks(fmt.Sprintf("zones[%d].services[%d]", i, j), d.report)
			svc.Checked = len(checks) > 0
			l.checks, l.needs = append(l.checks, checks), append(l.needs, int(svc.Need))
			z.ZoneConfig.Services = append(z.ZoneConfig.Services, svc.ServiceConfig)
		}
		z.ZoneConfig.Fed, z.ZoneConfig.Catalog = len(z.Primaries) > 0, z.Catalog != nil
		all = append(all, z.ZoneConfig)
	}
	return all
}

// need reports what the node cannot do without.
func (s source) need(l *loaded, d *document) {
	if s.agent == "" {
		return
	}
	if l.Mesh.Listen == "" {
		d.report("mesh.listen", "", "an address for gossip, here or as --mesh: an agent reports over the mesh")
	}
	_, ok := l.region(s.agent)
	if keys := l.plan.KeysOf(s.agent); len(keys) > 0 && (l.self == nil || !slices.Contains(keys, l.self.Public())) {
		d.report("mesh.identity", l.Mesh.Identity, "the file of a key that the region's agent_keys list: others believe no other agent of "+s.agent)
	}
	if !ok {
		var names []string
		for _, r := range l.Regions {
			names = append(names, r.Name)
		}
		d.problems = append(d.problems, problem{file: "--region", value: s.agent, accepted: "one of " + strings.Join(names, ", ")})
	}
}

// loadGeo compiles the table, or takes it over if nothing that it is made from changed.
func (l *loaded) loadGeo(dir string, prev *loaded, report zones.Reporter) {
	sites := l.sites()
	files := l.Geo.Files(dir)
	l.Files = append(l.Files, files...)
	l.stamp = fmt.Sprintf("%v %v %s", l.Geo, sites, stampFiles(files))
	var table *geo.Table
	if prev != nil {
		if table = prev.table; table != nil && prev.stamp == l.stamp {
			l.table = table
			return
		}
	}
	l.table = geo.Load(l.Geo, dir, sites, table, report)
}

// stampFiles tells versions of files apart.
func stampFiles(files []string) string {
	var b strings.Builder
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", f, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %d %d\n", f, info.Size(), info.ModTime().UnixNano())
	}
	return b.String()
}

func (l *loaded) survey() *steer.Survey { return steer.NewSurvey(l.Set, l.table) }

// forServe says what a director lacks in the configuration.
func (l *loaded) forServe() error {
	if len(l.Listen.DNS) == 0 {
		return errors.New("listen.dns: missing; accepted: addresses for DNS, here or as --dns, such as 192.0.2.1:53")
	}
	if len(l.Set.Zones) == 0 {
		return errors.New("zones: missing; accepted: at least one zone to serve")
	}
	return nil
}

func (l *loaded) region(name string) (Region, bool) {
	for _, r := range l.Regions {
		if r.Name == name {
			return r, true
		}
	}
	return Region{}, false
}

// targets are the endpoints that a region's agents speak of; those of services without a check have none.
func (l *loaded) targets(region string) []healthmesh.Target {
	var all []healthmesh.Target
	for i, svc := range l.Set.Services {
		for _, m := range svc.Members {
			if l.Set.Regions[m.Region].Name != region {
				continue
			}
			for _, e := range m.Endpoints() {
				all = append(all, healthmesh.Target{
					ID: healthmesh.ID(svc.Name, region, e), Name: svc.Name + " " + e, Service: svc.Name, Region: region, Endpoint: e,
					Checks: l.checks[i], Need: l.needs[i],
				})
			}
		}
	}
	return all
}

// readConfig reads the file alone, for verbs that speak to a director.
func readConfig(path string) (*Config, error) {
	d, c, err := parseConfig(path)
	if err != nil {
		return nil, err
	}
	if c.AdminTokenFile != "" {
		c.AdminTokenFile = absolute(filepath.Dir(path), c.AdminTokenFile)
	}
	return c, d.err()
}

// parseConfig reads the file into its form. What is not of the form is among the document's problems, or, where nothing
// can be read at all, the error.
func parseConfig(path string) (*document, *Config, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, nil, err
	}
	d := &document{file: path}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) > 0 {
		d.root = doc.Content[0]
		d.match(d.root, reflect.TypeFor[Config](), "")
	}
	if d.unread {
		return nil, nil, d.err()
	}
	c, err := decodeConfig(data, d)
	return d, c, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("%s: more than %d bytes", path, maxConfig)
	}
	return data, err
}

// decodeConfig reads values into the form.
func decodeConfig(data []byte, d *document) (*Config, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter("::")) // "." is part of domain names
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return nil, fmt.Errorf("%s: %w", d.file, err)
	}
	var c Config
	err := v.UnmarshalExact(&c, func(o *mapstructure.DecoderConfig) {
		o.WeaklyTypedInput = false
		o.DecodeHook = mapstructure.ComposeDecodeHookFunc(oneOrMore, mapstructure.StringToTimeDurationHookFunc(), mapstructure.TextUnmarshallerHookFunc())
	})
	if err != nil && len(d.problems) == 0 { // match has told what is not of the form, with more to say
		return nil, fmt.Errorf("%s: %w", d.file, err)
	}
	return &c, nil
}

// oneOrMore lets a list of text be a single text; an empty one is an empty list.
func oneOrMore(from, to reflect.Type, v any) (any, error) {
	if from.Kind() == reflect.String && to == reflect.TypeFor[[]string]() {
		if v == "" {
			return []string{}, nil
		}
		return []string{v.(string)}, nil
	}
	return v, nil
}
