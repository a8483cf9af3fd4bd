package healthmesh

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Check is how an endpoint's health is measured, as the configuration file states it. Each check makes a connection of its
// own, so that it sees what a new client would see.
type Check struct {
	// Type: http, https, tcp or dns. Optional: a service without a check is believed as long as its region's agents are heard.
	// Redirects are not followed. The certificate of https must be valid for Host, as a client of the service would ask.
	// A dns check asks for the SOA of Host over UDP; any answer with NOERROR is a success.
	Type string `mapstructure:"type"`
	// Port to connect to, 1 to 65535. Optional: 80 for http, 443 for https, 53 for dns.
	Port int `mapstructure:"port"`
	// Path to ask for, http and https. Optional, default "/".
	Path string `mapstructure:"path"`
	// Host is the Host header and the TLS server name, or the name that a dns check asks for. Optional: the service's name,
	// with "wildcard" for a "*".
	Host string `mapstructure:"host"`
	// Status are the accepted codes, 100 to 599. Optional, default any from 200 to 399.
	Status []int `mapstructure:"status"`
	// Body is a text that the first 64 KiB of the body must contain. Optional.
	Body string `mapstructure:"body"`
	// Interval between checks, 100ms to 1h. Optional, default 1s.
	Interval time.Duration `mapstructure:"interval"`
	// Timeout of one check, 10ms to 1m. Optional, default 500ms.
	Timeout time.Duration `mapstructure:"timeout"`
	// Fall is how many failures in a row make an endpoint down, 1 to 10. Optional, default 2.
	Fall int `mapstructure:"fall"`
	// Rise is how many successes in a row make it up again, 1 to 10. Optional, default 2.
	Rise int `mapstructure:"rise"`
}

// LoadConfig is where a region's load is read from.
type LoadConfig struct {
	// URL answers with JSON or a Prometheus exposition, at most 8 MiB. Optional: no load is reported.
	URL string `mapstructure:"url"`
	// JSON is the path of the number in a JSON answer, "a.b.0.c". Either JSON or Metric.
	JSON string `mapstructure:"json"`
	// Metric is the name of the metric in a Prometheus exposition; its samples are added up.
	Metric string `mapstructure:"metric"`
	// Interval between readings, 100ms to 1h. Optional, default 1s.
	Interval time.Duration `mapstructure:"interval"`
	// MaxAge: load not read for so long is no longer reported, at least the interval, at most 24h. Optional, default 30s
	// or three intervals, whichever is longer.
	MaxAge time.Duration `mapstructure:"max_age"`
}

// The kinds of Check.
const (
	checkHTTP  = "http"
	checkHTTPS = "https"
	checkTCP   = "tcp"
	checkDNS   = "dns"
)

// The bounds of a Check and of a LoadConfig.
const (
	minInterval, maxInterval = 100 * time.Millisecond, time.Hour
	minTimeout, maxTimeout   = 10 * time.Millisecond, time.Minute
	maxCount                 = 10 // of fall and rise
	maxMaxAge                = 24 * time.Hour
	maxText                  = 1024 // bytes of a path, host or text of a body
	defaultMaxAge            = 30 * time.Second
)

var defaultPorts = map[string]int{checkHTTP: 80, checkHTTPS: 443, checkDNS: 53}

func (c Check) withDefaults() Check {
	if c.Type == checkHTTP || c.Type == checkHTTPS {
		c.Path = cmp.Or(c.Path, "/")
	}
	c.Port = cmp.Or(c.Port, defaultPorts[c.Type])
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.Timeout = cmp.Or(c.Timeout, 500*time.Millisecond)
	c.Fall, c.Rise = cmp.Or(c.Fall, 2), cmp.Or(c.Rise, 2)
	return c
}

// Validate reports what is wrong with the check at key and returns it with its defaults filled in.
func (c Check) Validate(key string, report Reporter) Check {
	if c.Type == "" {
		if !c.isZero() {
			report(key+".type", c.Type, "http, https, tcp or dns")
		}
		return c
	}
	c = c.withDefaults()
	web := c.Type == checkHTTP || c.Type == checkHTTPS
	if !web && c.Type != checkTCP && c.Type != checkDNS {
		report(key+".type", c.Type, "http, https, tcp or dns")
		web = true // what else is wrong with it depends on what was meant
	} else if c.Port < 1 || c.Port > 65535 {
		report(key+".port", c.Port, "1 to 65535")
	}
	c.validateWeb(key, web, report)
	if len(c.Host) > 255 || strings.ContainsAny(c.Host, " /:@\t\r\n") || c.Host != "" && c.Type == checkTCP {
		report(key+".host", c.Host, "a host name of at most 255 bytes, not for tcp")
	}
	within(key+".interval", c.Interval, minInterval, maxInterval, report)
	within(key+".timeout", c.Timeout, minTimeout, maxTimeout, report)
	within(key+".fall", c.Fall, 1, maxCount, report)
	within(key+".rise", c.Rise, 1, maxCount, report)
	return c
}

// validateWeb reports what is wrong with the fields of http and https.
func (c Check) validateWeb(key string, web bool, report Reporter) {
	const onlyWeb = "only for http and https"
	if !web {
		if c.Path != "" {
			report(key+".path", c.Path, onlyWeb)
		}
		if len(c.Status) > 0 {
			report(key+".status", c.Status, onlyWeb)
		}
		if c.Body != "" {
			report(key+".body", c.Body, onlyWeb)
		}
		return
	}
	if _, err := url.ParseRequestURI(c.Path); c.Path != "" && (err != nil || c.Path[0] != '/' || len(c.Path) > maxText) {
		report(key+".path", c.Path, fmt.Sprintf(`a path that begins with "/", at most %d bytes`, maxText))
	}
	for i, code := range c.Status {
		within(fmt.Sprintf("%s.status[%d]", key, i), code, 100, 599, report)
	}
	if len(c.Body) > maxText {
		report(key+".body", c.Body, fmt.Sprintf("at most %d bytes", maxText))
	}
}

func (c Check) isZero() bool {
	return c.Port == 0 && c.Path == "" && c.Host == "" && len(c.Status) == 0 && c.Body == "" &&
		c.Interval == 0 && c.Timeout == 0 && c.Fall == 0 && c.Rise == 0
}

func (c Check) accepts(status int) bool {
	if len(c.Status) == 0 {
		return status >= 200 && status <= 399
	}
	return slices.Contains(c.Status, status)
}

// Validate reports what is wrong with the load source at key and returns it with its defaults filled in.
func (c LoadConfig) Validate(key string, report Reporter) LoadConfig {
	if c == (LoadConfig{}) {
		return c
	}
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.MaxAge = cmp.Or(c.MaxAge, max(defaultMaxAge, 3*c.Interval))
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		report(key+".url", c.URL, "an http or https URL")
	}
	switch {
	case c.JSON != "" && c.Metric != "":
		report(key+".metric", c.Metric, "either json or metric")
	case c.JSON == "" && c.Metric == "":
		report(key+".json", c.JSON, "the path of the number, or metric with its name")
	}
	within(key+".interval", c.Interval, minInterval, maxInterval, report)
	within(key+".max_age", c.MaxAge, c.Interval, maxMaxAge, report)
	return c
}

func within[T cmp.Ordered](key string, value, least, most T, report Reporter) {
	if value < least || value > most {
		report(key, value, fmt.Sprintf("%v to %v", least, most))
	}
}
