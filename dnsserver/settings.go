package dnsserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/gaissmai/bart"
)

// Reporter takes one problem of a configuration: key path, value, what is accepted.
type Reporter = func(key string, value any, accepted string)

// Config is how a director speaks DNS, as the configuration file states it. All of it is optional.
type Config struct {
	// NSID tells which director replied to who asks with that EDNS option (RFC 5001), at most 64 octets of text.
	// Optional, default the host's name; "" tells nothing.
	NSID *string `mapstructure:"nsid"`
	// ChaosID is what id.server and hostname.bind answer in class CHAOS (RFC 4892), at most 64 octets of text. Optional,
	// default "": they are refused.
	ChaosID string `mapstructure:"chaos_id"`
	// ChaosVersion is what version.server and version.bind answer in class CHAOS, at most 64 octets of text. Optional,
	// default "": they are refused.
	ChaosVersion string `mapstructure:"chaos_version"`
	// ExplainTo are the networks that may ask for explanations with DNS, as in "dig TXT _explain.www.geo.example.com".
	// Others are refused, and what such names have in a zone file is not served. Optional, default loopback.
	ExplainTo []string `mapstructure:"explain_to"`
	// ECSFrom are the networks of resolvers whose client subnets (RFC 7871) are believed; those of others are ignored.
	// Optional, default all.
	ECSFrom []string `mapstructure:"ecs_from"`
	// CookieFile has the secrets of DNS cookies (RFC 9018), 32 hexadecimal digits each, one a line, the same on all
	// directors; made by "nearcast keygen cookies". The first makes cookies, all are accepted: a new one comes second on
	// all directors, then first, and the old one goes an hour later. At most 4. Optional: each director then has
	// a secret of its own until it ends.
	CookieFile string `mapstructure:"cookie_file"`
	// ProxyFrom are the networks of load balancers that tell whose query they hand on: all that comes from there, UDP, TCP and
	// TLS, must begin with a header of the PROXY protocol, version 2, of at most 4096 octets behind its first 16. Over UDP header and
	// query have 4096 octets together. Optional, default none.
	ProxyFrom []string `mapstructure:"proxy_from"`
	// Keys are shared secrets that sign messages (TSIG). Optional.
	Keys []KeyConfig `mapstructure:"keys"`
	// RateLimit bounds what client networks are sent over UDP.
	RateLimit RateLimitConfig `mapstructure:"rate_limit"`
	// TLS is the certificate of DNS over TLS.
	TLS TLSConfig `mapstructure:"tls"`
}

// RateLimitConfig bounds what client networks, an IPv4 /24 or an IPv6 /56, are sent over UDP, as the configuration file
// states it: forged queries would otherwise make the director a weapon. TCP, TLS and clients with a valid cookie have no limit.
type RateLimitConfig struct {
	// ResponsesPerSecond is how many replies of a class (positive, negative, referral, error) a client network gets in a second, 1 to
	// 1000000. Optional, default 1000; 0 sets no limit.
	ResponsesPerSecond *int `mapstructure:"responses_per_second"`
	// Slip is of how many replies over the limit one is sent all the same, 1 to 10, without records: it makes an honest client
	// come back by TCP or with a cookie. Optional, default 2; 0 sends none.
	Slip *int `mapstructure:"slip"`
	// Exempt are the networks without a limit. Optional, default loopback.
	Exempt []string `mapstructure:"exempt"`
}

// The bounds of a RateLimitConfig.
const (
	defaultRate = 1000 // what a network of large resolvers asks at most of a zone in use, and a trickle to a victim
	maxRate     = 1000000
	defaultSlip = 2
	maxSlip     = 10
)

// TLSConfig is the certificate of DNS over TLS, as the configuration file states it. A changed file is taken up.
type TLSConfig struct {
	// Certificate is a file with the certificate and those that lead to its root, in PEM.
	Certificate string `mapstructure:"certificate"`
	// Key is the file with the certificate's private key, in PEM. ECDSA is best: a signature with RSA takes more than ten times
	// as long, so that a flood of handshakes keeps out others sooner.
	Key string `mapstructure:"key"`
}

// maxIdentity is the most octets of a text that tells who replies: a larger one would have no other use than to
// amplify.
const maxIdentity = 64

// Settings are a Config in use. Immutable.
type Settings struct {
	nsid         []byte // nil: none
	chaosID      string
	chaosVersion string
	explainTo    *bart.Lite // nil: nobody
	ecsFrom      *bart.Lite // nil: all
	proxyFrom    *bart.Lite // nil: none
	cookies      cookieKeys
	rate         int // replies of a class a second; 0: no limit
	slip         int // of so many over the rate one is sent; 0: none
	exempt       *bart.Lite
	keys         map[string]*key          // by name
	transfers    map[string]*transferRule // by zone
	fed          map[string]*fedRule      // zones that have primaries
	cert         *tls.Certificate         // nil: none
	files        []string
}

// Files are those that the settings were read from, for watching.
func (s *Settings) Files() []string { return s.files }

// isProxy tells if what comes from a is from a balancer.
func (s *Settings) isProxy(a netip.Addr) bool { return s.proxyFrom != nil && s.proxyFrom.Contains(a) }

// HasCertificate tells if DNS over TLS can be served.
func (s *Settings) HasCertificate() bool { return s.cert != nil }

func (s *Settings) certificate() (*tls.Certificate, error) {
	if s.cert == nil {
		return nil, errors.New("the configuration has no certificate any more")
	}
	return s.cert, nil
}

// Compile reports what is wrong with the configuration at key and with the zones' parts; dir is what paths are relative to.
func (c *Config) Compile(key, dir string, zones []ZoneConfig, report Reporter) *Settings {
	s := &Settings{chaosID: c.ChaosID, chaosVersion: c.ChaosVersion, cookies: ownCookieKeys()}
	id := ""
	if c.NSID != nil {
		id = *c.NSID
	} else if host, err := os.Hostname(); err == nil {
		id = host[:min(len(host), maxIdentity)]
	}
	if id != "" {
		s.nsid = []byte(id)
	}
	for name, text := range map[string]string{"nsid": id, "chaos_id": c.ChaosID, "chaos_version": c.ChaosVersion} {
		if len(text) > maxIdentity {
			report(key+"."+name, text, fmt.Sprintf("at most %d octets", maxIdentity))
		}
	}
	s.explainTo = networks(key+".explain_to", orLoopback(c.ExplainTo), report)
	s.exempt = networks(key+".rate_limit.exempt", orLoopback(c.RateLimit.Exempt), report)
	s.rate = bounded(key+".rate_limit.responses_per_second", c.RateLimit.ResponsesPerSecond, defaultRate, maxRate, report)
	s.slip = bounded(key+".rate_limit.slip", c.RateLimit.Slip, defaultSlip, maxSlip, report)
	if c.ECSFrom != nil {
		s.ecsFrom = networks(key+".ecs_from", c.ECSFrom, report)
	}
	if len(c.ProxyFrom) > 0 {
		s.proxyFrom = networks(key+".proxy_from", c.ProxyFrom, report)
	}
	file := func(path string) string {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		s.files = append(s.files, path)
		return path
	}
	s.keys = compileKeys(key+".keys", c.Keys, file, report)
	s.zones(zones, report)
	if c.TLS.Certificate != "" || c.TLS.Key != "" {
		cert, err := tls.LoadX509KeyPair(file(c.TLS.Certificate), file(c.TLS.Key))
		if err != nil {
			report(key+".tls", c.TLS.Certificate+", "+c.TLS.Key, "certificate and key, files in PEM that belong together: "+err.Error())
		}
		s.cert = &cert
	}
	if c.CookieFile != "" {
		path := file(c.CookieFile)
		var err error
		if s.cookies, err = readCookieKeys(path); err != nil {
			report(key+".cookie_file", c.CookieFile, "secrets of 32 hexadecimal digits, one a line, at most 4: "+err.Error())
		}
	}
	return s
}

// With is the settings with other zones' parts.
func (s *Settings) With(zones []ZoneConfig, report Reporter) *Settings {
	with := *s
	with.zones(zones, report)
	return &with
}

func (s *Settings) zones(zones []ZoneConfig, report Reporter) {
	s.transfers, s.fed = map[string]*transferRule{}, map[string]*fedRule{}
	for _, z := range zones {
		s.transfers[z.Name] = compileTransfer(z, s.keys, report)
		if len(z.Primaries) > 0 {
			s.fed[z.Name] = compilePrimaries(z, s.keys, report)
		}
	}
}

func orLoopback(texts []string) []string {
	if texts == nil {
		return []string{"127.0.0.0/8", "::1/128"}
	}
	return texts
}

// bounded is a number of 0 to most, or the one for want of it.
func bounded(key string, n *int, otherwise, most int, report Reporter) int {
	if n == nil {
		return otherwise
	}
	if *n < 0 || *n > most {
		report(key, *n, fmt.Sprintf("0 to %d", most))
	}
	return *n
}

// networks reads a list of networks and addresses.
func networks(key string, texts []string, report Reporter) *bart.Lite {
	list := &bart.Lite{}
	for i, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(text); err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" || p != p.Masked() {
			report(fmt.Sprintf("%s[%d]", key, i), text, "a network such as 192.0.2.0/24 or 2001:db8::/32, or an address")
			continue
		}
		list.Insert(p)
	}
	return list
}
