package healthmesh

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// LoadConfig is where a region's load is read from.
type LoadConfig struct {
	// Type: json, prometheus, haproxy, nginx, envoy, cpu or memory. Optional where json is given, which makes it json, or
	// metric, which makes it prometheus. cpu and memory are the share of the agent's host that is in use (Linux), 0 to 1, times
	// the region's capacity; limits of the agent's own cgroup do not count, since they bound the agent and not what serves.
	Type string `mapstructure:"type"`
	// URL answers with the load, at most 8 MiB: JSON; a Prometheus exposition in text form; HAProxy's statistics as CSV,
	// "http://127.0.0.1:8404/stats;csv", or its stats socket, "unix:///run/haproxy/admin.sock"; nginx's stub_status, of which the
	// active connections count, the reading's own among them; Envoy's statistics,
	// "http://127.0.0.1:9901/stats?format=json&filter=downstream_rq_active", or the same as text. Not for cpu and memory.
	// Optional: without a URL and a type, no load is reported.
	URL string `mapstructure:"url"`
	// JSON is the path of the number in a JSON answer, "a.b.0.c".
	JSON string `mapstructure:"json"`
	// Metric is the name of what is read. prometheus: the metric, a gauge; its samples are added up. haproxy: the column
	// of the CSV. Optional there, default scur, the current sessions. envoy: the counter or gauge, such as
	// "cluster.web.upstream_rq_active". Optional there, default the sum of all "http.*.downstream_rq_active" but the admin
	// interface's own.
	Metric string `mapstructure:"metric"`
	// Labels that the samples of a Prometheus metric must have, at most 16. Optional: all samples count.
	Labels []LabelConfig `mapstructure:"labels"`
	// Proxy is the HAProxy frontend, backend or listen section that is read. Optional: the rows of all are added up.
	Proxy string `mapstructure:"proxy"`
	// Row of the HAProxy proxy: FRONTEND, BACKEND, or the name of a server. Optional, default BACKEND.
	Row string `mapstructure:"row"`
	// Scale turns the number that is read into the unit of capacity: it is multiplied with it, above 0. Optional, default 1.
	Scale *float64 `mapstructure:"scale"`
	// Smooth is the time constant of the exponentially weighted moving average that is reported, 1ms to 1h: a step of the load
	// is followed to 63 % after it, and to 95 % after three. Optional, default 10s; 1ms reports what is read.
	Smooth time.Duration `mapstructure:"smooth"`
	// Interval between readings, 100ms to 1h. Optional, default 1s.
	Interval time.Duration `mapstructure:"interval"`
	// MaxAge: load that was not read for three intervals, and for 2s more than one, is stale: it keeps its last value, and the log
	// and the status say so. Not read for so long, it is no longer reported, and the region counts as one without load. At least the interval, at most 24h. Optional, default
	// 30s or five intervals, whichever is longer.
	MaxAge time.Duration `mapstructure:"max_age"`
}

// LabelConfig is one label of a sample.
type LabelConfig struct {
	// Name of the label.
	Name string `mapstructure:"name"`
	// Value that the label must have. Optional, default "": the sample has no such label.
	Value string `mapstructure:"value"`
}

// The types of LoadConfig.
const (
	loadJSON       = "json"
	loadPrometheus = "prometheus"
	loadHAProxy    = "haproxy"
	loadNginx      = "nginx"
	loadEnvoy      = "envoy"
	loadCPU        = "cpu"
	loadMemory     = "memory"
)

type loadType struct {
	name string
	keys []string
}

// loadTypes are all of them, with the keys beside url that each reads.
var loadTypes = []loadType{
	{loadJSON, []string{"json"}},
	{loadPrometheus, []string{"metric", "labels"}},
	{loadHAProxy, []string{"metric", "proxy", "row"}},
	{loadNginx, nil},
	{loadEnvoy, []string{"metric"}},
	{loadCPU, nil},
	{loadMemory, nil},
}

const acceptedLoadTypes = "json, prometheus, haproxy, nginx, envoy, cpu or memory"

// The bounds of a LoadConfig.
const (
	minSmooth, maxSmooth = time.Millisecond, time.Hour
	defaultSmooth        = 10 * time.Second // long enough that one burst moves no clients, short beside a TTL of 30 s
	maxMaxAge            = 24 * time.Hour
	defaultMaxAge        = 30 * time.Second
	staleIntervals       = 3  // readings that may be missed before the load is stale: one lost and one late are nothing
	maxAgeIntervals      = 5  // so that load is stale before it is too old
	maxLabels            = 16 // as many as a sample sensibly has
	defaultColumn        = "scur"
	defaultRow           = "BACKEND"
)

// withDefaults fills in what the configuration leaves out.
func (c LoadConfig) withDefaults() LoadConfig {
	switch {
	case c.Type != "":
	case c.JSON != "":
		c.Type = loadJSON
	case c.Metric != "":
		c.Type = loadPrometheus
	}
	if c.Type == loadHAProxy {
		c.Metric, c.Row = cmp.Or(c.Metric, defaultColumn), cmp.Or(c.Row, defaultRow)
	}
	c.Smooth = cmp.Or(c.Smooth, defaultSmooth)
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.MaxAge = cmp.Or(c.MaxAge, max(defaultMaxAge, maxAgeIntervals*c.Interval))
	return c
}

func (c LoadConfig) isZero() bool {
	return c.Type == "" && c.URL == "" && c.JSON == "" && c.Metric == "" && len(c.Labels) == 0 && c.Proxy == "" && c.Row == "" &&
		c.Scale == nil && c.Smooth == 0 && c.Interval == 0 && c.MaxAge == 0
}

// onHost says that the load is that of the agent's host.
func (c LoadConfig) onHost() bool { return c.Type == loadCPU || c.Type == loadMemory }

// Validate reports what is wrong with the load source at key and returns it with its defaults filled in.
func (c LoadConfig) Validate(key string, report Reporter) LoadConfig {
	if c.isZero() {
		return c
	}
	given := c // without defaults, which are no mistake of the file
	c = c.withDefaults()
	i := slices.IndexFunc(loadTypes, func(t loadType) bool { return t.name == c.Type })
	if i < 0 {
		report(key+".type", c.Type, acceptedLoadTypes)
	} else {
		given.validateKeys(key, c.Type, loadTypes[i].keys, report)
		c.validateURL(key, report)
	}
	switch {
	case c.Type == loadJSON && c.JSON == "":
		report(key+".json", c.JSON, "the path of the number")
	case c.Type == loadPrometheus && c.Metric == "":
		report(key+".metric", c.Metric, "the name of the metric")
	}
	if len(c.Labels) > maxLabels {
		report(key+".labels", len(c.Labels), fmt.Sprintf("at most %d", maxLabels))
	}
	for i, l := range c.Labels {
		if l.Name == "" {
			report(fmt.Sprintf("%s.labels[%d].name", key, i), l.Name, "the name of a label")
		}
	}
	if c.Scale != nil && amount(*c.Scale) == 0 {
		report(key+".scale", *c.Scale, "a number above 0")
	}
	within(key+".smooth", c.Smooth, minSmooth, maxSmooth, report)
	within(key+".interval", c.Interval, minInterval, maxInterval, report)
	within(key+".max_age", c.MaxAge, c.Interval, maxMaxAge, report)
	return c
}

// validateKeys reports the keys that are given and that the type does not read.
func (c LoadConfig) validateKeys(key, typ string, read []string, report Reporter) {
	for _, k := range []struct {
		name  string
		value any
		given bool
	}{
		{"json", c.JSON, c.JSON != ""},
		{"metric", c.Metric, c.Metric != ""},
		{"labels", c.Labels, len(c.Labels) > 0},
		{"proxy", c.Proxy, c.Proxy != ""},
		{"row", c.Row, c.Row != ""},
	} {
		if !k.given || slices.Contains(read, k.name) {
			continue
		}
		var readers []string
		for _, t := range loadTypes {
			if slices.Contains(t.keys, k.name) {
				readers = append(readers, t.name)
			}
		}
		report(key+"."+k.name, k.value, "only for "+strings.Join(readers, " or ")+", and this is "+typ)
	}
}

func (c LoadConfig) validateURL(key string, report Reporter) {
	u, err := url.Parse(c.URL)
	web := err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
	switch {
	case c.onHost():
		if c.URL != "" {
			report(key+".url", c.URL, "no URL: it is the agent's host that is measured")
		}
	case c.Type == loadHAProxy:
		if _, socket := c.socket(); !web && !socket {
			report(key+".url", c.URL, "an http or https URL, or unix:// and the absolute path of the stats socket")
		}
	case !web:
		report(key+".url", c.URL, "an http or https URL")
	}
}

// socket is the path of the Unix socket that the URL names.
func (c LoadConfig) socket() (path string, ok bool) {
	path, ok = strings.CutPrefix(c.URL, "unix://")
	return path, ok && strings.HasPrefix(path, "/")
}

// staleAfter is how old the last reading of a stale load is, at least: more than a slow source takes from one to the next.
func (c LoadConfig) staleAfter() time.Duration {
	return max(staleIntervals*c.Interval, c.Interval+loadTimeout)
}

// scale turns a number that was read into the unit of capacity.
func (c LoadConfig) scale(x float64) float64 {
	if c.Scale == nil {
		return x
	}
	return *c.Scale * x
}
