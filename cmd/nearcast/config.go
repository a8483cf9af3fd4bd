package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/dnsserver"
	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// Config is the configuration file. The rooms that read its parts declare these.
type Config struct {
	// Listen is where a director answers. Agents need none of it.
	Listen Listen `mapstructure:"listen"`
	// State is the folder for what must outlive a restart: the last view and the orders. Each node has a folder of its own in
	// it, made with mode 0700. Optional, default "state".
	State string `mapstructure:"state"`
	// User is whom a director or agent becomes as it starts, with that user's groups: all that this file names is read as that user, at the start
	// as at every reload, and folders for state and copies are made for that user where they are missing. Needs root. Optional: it
	// stays who it is. Either way it gives up its capabilities, the last once its sockets are bound, and where the kernel has Landlock, to run
	// programs and to write anywhere but in its folders. An agent keeps what checks of type exec and icmp need.
	User string `mapstructure:"user"`
	// AdminTokenFile has the token, 16 to 256 bytes, with which orders are taken from other hosts; another one in it counts from the
	// next reload on. Optional: orders are taken from loopback alone.
	AdminTokenFile string `mapstructure:"admin_token_file"`
	// DNS is how a director speaks DNS. Optional.
	DNS dnsserver.Config `mapstructure:"dns"`
	// Geo says where places come from. Optional, default: the embedded database.
	Geo geo.Config `mapstructure:"geo"`
	// Mesh is the gossip between directors and agents. Optional for a director that steers nothing.
	Mesh healthmesh.Config `mapstructure:"mesh"`
	// Regions are the places that take traffic.
	Regions []Region `mapstructure:"regions"`
	// Zones are what is served.
	Zones []Zone `mapstructure:"zones"`
}

// Listen is where a director answers.
type Listen struct {
	// DNS are the addresses for DNS over UDP and TCP, "address:port".
	DNS []string `mapstructure:"dns"`
	// TLS are the addresses for DNS over TLS (RFC 7858), "address:port", mostly of port 853. Optional; needs dns.tls.
	TLS []string `mapstructure:"tls"`
	// Admin is the address for the API and the metrics, "address:port". Optional, default 127.0.0.1:8053.
	Admin string `mapstructure:"admin"`
}

// Region is a region with what its agents watch there beside the endpoints.
type Region struct {
	zones.RegionConfig `mapstructure:",squash"`
	// Load is where this region's agents read its load. Optional: none is reported.
	Load healthmesh.LoadConfig `mapstructure:"load"`
	// Backends are the servers behind the region's endpoints, which its agents watch: their sum is the region's live capacity. Optional:
	// it is the configured one.
	Backends healthmesh.BackendsConfig `mapstructure:"backends"`
	// AgentKeys are the public keys of the region's agents, base64 as "nearcast keygen agent" prints them, at most 64, none that another list
	// has: reports of this region are believed only if signed by one of them. Optional: every member of the mesh may speak for the region, which is then no witness of those with keys.
	AgentKeys []string `mapstructure:"agent_keys"`
}

// maxCapacity is the most that is believed of the region.
func (r Region) maxCapacity() float64 {
	if r.MaxCapacity == nil {
		return r.Capacity
	}
	return *r.MaxCapacity
}

// Zone is a zone with its steered names.
type Zone struct {
	zones.ZoneConfig `mapstructure:",squash"`
	// Services are the steered names of the zone. Optional: a zone without services is served as its file states it.
	Services []Service `mapstructure:"services"`
	// Primaries are the servers that the zone is transferred from (AXFR, IXFR, NOTIFY), asked in this order until one has a newer version, at most 8. Optional:
	// the file is the operator's own. With primaries it is the director's copy: kept over restarts, served until it expires, and
	// laid under the services. Copies need a folder with nothing else in it that nearcast reads. A reload that names a new folder is refused where the director may not write to it,
	// as with Landlock, and then needs a restart. A copy that an operator puts there is read at the start and with SIGHUP, and not when it changes.
	Primaries []dnsserver.PrimaryConfig `mapstructure:"primaries"`
	// Catalog makes the zone a list of zones (RFC 9432) that are served as well. Optional.
	Catalog *Catalog `mapstructure:"catalog"`
	// Transfer is who may have all of the zone. Optional: nobody.
	Transfer dnsserver.TransferConfig `mapstructure:"transfer"`
}

// Service is a steered name with its health check.
type Service struct {
	zones.ServiceConfig `mapstructure:",squash"`
	// Check is how its endpoints are measured. Optional: without a check, a region's endpoints are up while its agents are heard.
	Check healthmesh.Check `mapstructure:"check"`
	// Checks, in place of check: several for each endpoint, at most 8.
	Checks []healthmesh.Check `mapstructure:"checks"`
	// Need is how many of the checks must succeed for an endpoint to be up: all, any, or a number. Where it depends on checks that
	// could not be made, the endpoint is unknown. Optional, default all; only beside checks.
	Need healthmesh.Need `mapstructure:"need"`
}

// Catalog is how the members of a catalog are served.
type Catalog struct {
	// Folder is where the copies of the members are kept, and nothing else that nearcast reads. Copies of members that are gone are removed.
	// A new folder may need a restart, as that of a zone's copy.
	Folder string `mapstructure:"folder"`
	// Primaries are the servers that the members are transferred from. Optional, default those of the catalog.
	Primaries []dnsserver.PrimaryConfig `mapstructure:"primaries"`
	// Transfer is who may have all of a member. Optional: nobody.
	Transfer dnsserver.TransferConfig `mapstructure:"transfer"`
}

const (
	defaultState = "state"
	minToken     = 16  // bytes: what cannot be guessed
	maxToken     = 256 // bytes: what fits a header with ease
)

func (c *Config) adminAddr() string {
	if c.Listen.Admin == "" {
		return defaultAdmin
	}
	return c.Listen.Admin
}

// validate reports what is wrong with the parts that no room owns, and fills in what these leave out; dir is what paths
// are relative to.
func (c *Config) validate(dir string, report zones.Reporter) {
	for key, addrs := range map[string][]string{"listen.dns": c.Listen.DNS, "listen.tls": c.Listen.TLS} {
		for i, addr := range addrs {
			if !isAddrPort(addr) {
				report(keyOf(key, i), addr, `"address:port", such as 192.0.2.1:53 or [2001:db8::1]:53`)
			}
		}
	}
	if len(c.Listen.TLS) > 0 && c.DNS.TLS.Certificate == "" {
		report("listen.tls", c.Listen.TLS, "addresses for TLS beside a certificate, dns.tls.certificate and dns.tls.key")
	}
	if !isAddrPort(c.adminAddr()) {
		report("listen.admin", c.Listen.Admin, `"address:port", such as 127.0.0.1:8053`)
	}
	if c.State == "" {
		c.State = defaultState
	}
	c.State = absolute(dir, c.State)
	if c.AdminTokenFile != "" {
		c.AdminTokenFile = absolute(dir, c.AdminTokenFile)
	}
}

// sites are the regions as overrides name them; what is wrong with a region is told elsewhere.
func (c *Config) sites() []geo.Site {
	var all []geo.Site
	for _, r := range c.Regions {
		if len(r.Location) == 2 {
			all = append(all, geo.Site{Name: r.Name, Point: geo.Point{Lat: r.Location[0], Lon: r.Location[1]}})
		}
	}
	return all
}

// validateCatalogs reports what the catalogs lack; their contents are another matter.
func (c *Config) validateCatalogs(report zones.Reporter) {
	for i, z := range c.Zones {
		if z.Catalog == nil {
			continue
		}
		key := keyOf("zones", i) + ".catalog"
		if len(z.memberPrimaries()) == 0 {
			report(key+".primaries", "", "servers that the members are transferred from, here or for the catalog")
		}
		if z.Catalog.Folder == "" {
			report(key+".folder", "", "a folder for the members' copies")
		}
	}
}

// dnsZones are the zones as other servers of theirs see them.
func (l *loaded) dnsZones() []dnsserver.ZoneConfig {
	var all []dnsserver.ZoneConfig
	for i, z := range l.Zones {
		all = append(all, dnsserver.ZoneConfig{
			Key: keyOf("zones", i), Name: dns.CanonicalName(z.Name), File: absolute(l.dir, z.File), Transfer: z.Transfer, Primaries: z.Primaries,
		})
	}
	return all
}

// isAddrPort tells if s is an address, or nothing for all of them, and a port.
func isAddrPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := net.LookupPort("udp", port)
	return err == nil && n >= 0 && (host == "" || net.ParseIP(host) != nil)
}

// token is the token that orders from other hosts bear, "" if there is none.
func (c *Config) token() (string, error) {
	if c.AdminTokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.AdminTokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || len(token) > maxToken {
		return "", errTokenLength(len(token))
	}
	return token, nil
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
