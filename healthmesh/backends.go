package healthmesh

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// BackendsConfig are the servers behind a region's endpoints, as its agents see them. The sum of what the healthy ones carry is
// the region's live capacity, at most its max_capacity: it follows scaling in and out. One of Static, DNS and File. While they cannot be
// read, the last list stays.
type BackendsConfig struct {
	// Static lists the backends, at most 1024.
	Static []BackendConfig `mapstructure:"static"`
	// DNS is a name whose addresses (A and AAAA) are the backends, with port; or one that begins with "_", whose SRV records are. A name
	// that does not exist or has no records counts as one that cannot be read.
	DNS string `mapstructure:"dns"`
	// Port of each backend, 1 to 65535. Only for dns, and not with SRV records, which state it.
	Port int `mapstructure:"port"`
	// Server is the DNS server to ask, "address:port", such as that of a service catalog. Optional, default the host's.
	Server string `mapstructure:"server"`
	// File lists the backends in the form of Prometheus's file_sd, JSON if its name ends in .json, else YAML, at most 1 MiB: a list of
	// {targets: ["10.0.0.1:8080"], labels: {nearcast_capacity: "50"}}. The label is the capacity of each of the targets; other
	// labels are ignored. A change counts when two readings found the same, so that no half of a file is believed. Read by the agents
	// alone.
	File string `mapstructure:"file"`
	// Interval between look-ups of dns or readings of file, 100ms to 1h. Optional, default 1s for file and 5s for dns.
	Interval time.Duration `mapstructure:"interval"`
	// Capacity of each backend that states none itself, above 0, in the unit of the region's. Optional if all of static state it.
	Capacity float64 `mapstructure:"capacity"`
	// Check is how each backend is measured, as a service's endpoints are; its default port is the backend's, its default host the
	// backend's address. Optional: every backend that is listed is taken as healthy.
	Check Check `mapstructure:"check"`
	// MinLive is the live capacity, in percent of the region's capacity, below which the region is down in all services, 1 to 100. It comes
	// back once it has had so much for 5s without a break. Optional, default 50.
	MinLive int `mapstructure:"min_live"`
}

// BackendConfig is one backend.
type BackendConfig struct {
	// Address is "host:port"; the host is an address or a name.
	Address string `mapstructure:"address"`
	// Capacity of this backend, above 0. Optional, default the backends' capacity.
	Capacity float64 `mapstructure:"capacity"`
}

// The bounds of a BackendsConfig.
const (
	maxBackends         = 1024    // of one region: at a check each second, as many sockets a second
	maxRosterFile       = 1 << 20 // bytes: a KiB for each backend
	defaultMinLive      = 50
	defaultFileInterval = time.Second // a small file costs nothing to read
	defaultDNSInterval  = 5 * time.Second
	anyPort             = 1 // stands for each backend's own where a check is validated
	acceptedBackend     = `"host:port" with a port from 1 to 65535`
)

func (c BackendsConfig) isZero() bool {
	return !c.configured() && c.Port == 0 && c.Server == "" && c.Interval == 0 && c.Capacity == 0 && c.MinLive == 0 &&
		c.Check.isZero()
}

// configured says that there are backends to watch.
func (c BackendsConfig) configured() bool { return len(c.Static) > 0 || c.DNS != "" || c.File != "" }

// withSRV says that the backends are the SRV records of the name.
func (c BackendsConfig) withSRV() bool { return strings.HasPrefix(c.DNS, "_") }

// Validate reports what is wrong with the backends at key and returns them with their defaults filled in; dir is what paths are
// relative to.
func (c BackendsConfig) Validate(key, dir string, report Reporter) BackendsConfig {
	if c.isZero() {
		return c
	}
	sources := 0
	for _, given := range []bool{len(c.Static) > 0, c.DNS != "", c.File != ""} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		report(key, fmt.Sprintf("%d sources", sources), "one of static, dns and file")
	}
	if c.File != "" && !filepath.IsAbs(c.File) {
		c.File = filepath.Join(dir, c.File)
	}
	c.MinLive = cmp.Or(c.MinLive, defaultMinLive)
	within(key+".min_live", c.MinLive, 1, 100, report)
	c.validateInterval(key, report)
	c.validateDNS(key, report)
	c.validateStatic(key, report)
	if c.Capacity != 0 && amount(c.Capacity) == 0 {
		report(key+".capacity", c.Capacity, "a number above 0")
	}
	needed := c.DNS != "" || c.File != "" || slices.ContainsFunc(c.Static, func(b BackendConfig) bool { return b.Capacity == 0 })
	if c.Capacity == 0 && needed {
		report(key+".capacity", c.Capacity, "the capacity of each backend that states none itself, above 0")
	}
	c.Check = c.validateCheck(key+".check", report)
	return c
}

func (c *BackendsConfig) validateInterval(key string, report Reporter) {
	switch {
	case c.File != "":
		c.Interval = cmp.Or(c.Interval, defaultFileInterval)
	case c.DNS != "":
		c.Interval = cmp.Or(c.Interval, defaultDNSInterval)
	case c.Interval != 0:
		report(key+".interval", c.Interval, "only for dns and file")
		return
	default:
		return
	}
	within(key+".interval", c.Interval, minInterval, maxInterval, report)
}

func (c BackendsConfig) validateDNS(key string, report Reporter) {
	const onlyDNS = "only for dns"
	switch {
	case c.DNS == "":
		if c.Port != 0 {
			report(key+".port", c.Port, onlyDNS)
		}
		if c.Server != "" {
			report(key+".server", c.Server, onlyDNS)
		}
		return
	case c.withSRV() && c.Port != 0:
		report(key+".port", c.Port, "none for a name that begins with \"_\": its SRV records state the ports")
	case !c.withSRV():
		within(key+".port", c.Port, 1, 65535, report)
	}
	if len(c.DNS) > 254 || strings.ContainsAny(c.DNS, " /:@\t\r\n") {
		report(key+".dns", c.DNS, "a name of at most 254 characters")
	}
	if c.Server == "" {
		return
	}
	if addr, err := netip.ParseAddrPort(c.Server); err != nil || addr.Port() == 0 {
		report(key+".server", c.Server, `"address:port", such as 127.0.0.1:8600`)
	}
}

func (c BackendsConfig) validateStatic(key string, report Reporter) {
	if len(c.Static) > maxBackends {
		report(key+".static", len(c.Static), fmt.Sprintf("at most %d backends", maxBackends))
	}
	seen := map[string]bool{}
	for i, b := range c.Static {
		at := fmt.Sprintf("%s.static[%d]", key, i)
		switch {
		case !validBackend(b.Address):
			report(at+".address", b.Address, acceptedBackend)
		case seen[b.Address]:
			report(at+".address", b.Address, "each backend once")
		}
		seen[b.Address] = true
		if b.Capacity != 0 && amount(b.Capacity) == 0 {
			report(at+".capacity", b.Capacity, "a number above 0")
		}
	}
}

// validateCheck validates the check with a port in place of each backend's own.
func (c BackendsConfig) validateCheck(key string, report Reporter) Check {
	check, own := c.Check, c.Check.Port == 0
	if own && kinds[check.Type].has("port") {
		check.Port = anyPort
	}
	if check.Type == checkDNS && check.Host == "" {
		report(key+".host", check.Host, "the name that the check asks the backends for")
	}
	check = check.Validate(key, report)
	if own {
		check.Port = 0
	}
	return check
}

// validBackend says whether s is a host and a port to connect to.
func validBackend(s string) bool {
	h, _, err := net.SplitHostPort(s)
	return err == nil && h != "" && validHostPort(s, 1) && len(s) <= 260 && !strings.ContainsAny(h, " /@\t\r\n")
}
