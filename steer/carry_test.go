package steer_test

import (
	"testing"

	"github.com/nearcast/nearcast/zones"
)

func TestCarry(t *testing.T) {
	named := func(name string, s zones.ServiceConfig) zones.ServiceConfig {
		s.Name = name
		return s
	}
	all := service("nearest", "us-east", "eu-west", "ap-south") // 300, 200, 100
	narrow := named("narrow", service("nearest", "us-east", "ap-south"))
	elsewhere := named("elsewhere", service("nearest", "eu-west", "ap-south"))
	for _, tt := range []struct {
		name     string
		services []zones.ServiceConfig
		beliefs  string
		share    float64
		want     string
	}{
		{"room for it", []zones.ServiceConfig{all}, "us-east up load=100, eu-west up load=100, ap-south up load=40", 1, ""},
		{"a little more", []zones.ServiceConfig{all}, "us-east up load=101, eu-west up load=100, ap-south up load=40", 1,
			"100 % of us-east's load is 101, and the others cannot carry it: ap-south, eu-west would have 241 of 300, 80.3 %, at most 80 % may be, for www.geo.example.com."},
		{"a part of it", []zones.ServiceConfig{all}, "us-east up load=200, eu-west up load=100, ap-south up load=40", 0.5, ""},
		{"scaled in", []zones.ServiceConfig{all}, "us-east up load=160, eu-west up load=60 live=100, ap-south up load=40", 0.5,
			"50 % of us-east's load is 80, and the others cannot carry it: ap-south, eu-west would have 180 of 200, 90 %, at most 80 % may be, for www.geo.example.com."},
		{"one is down", []zones.ServiceConfig{all}, "us-east up load=100, eu-west down, ap-south up load=40", 1,
			"100 % of us-east's load is 100, and the others cannot carry it: ap-south would have 140 of 100, 140 %, at most 80 % may be, for www.geo.example.com."},
		{"half of another's endpoints are down", []zones.ServiceConfig{all}, "us-east up load=100, eu-west up load=1 192.0.2.11=down, ap-south up load=40", 1,
			"100 % of us-east's load is 100, and the others cannot carry it: ap-south would have 140 of 100, 140 %, at most 80 % may be, for www.geo.example.com."},
		{"one is being drained", []zones.ServiceConfig{all}, "us-east up load=100, eu-west up load=10 drain=0.1, ap-south up load=40", 1,
			"100 % of us-east's load is 100, and the others cannot carry it: ap-south would have 140 of 100, 140 %, at most 80 % may be, for www.geo.example.com."},
		{"one sheds half", []zones.ServiceConfig{all}, "us-east up load=100, eu-west up load=0 shed=0.5, ap-south up load=65", 1,
			"100 % of us-east's load is 100, and the others cannot carry it: ap-south, eu-west would have 165 of 200, 82.5 %, at most 80 % may be, for www.geo.example.com."},
		{"one sheds all", []zones.ServiceConfig{all}, "us-east up load=41, eu-west up load=0 shed=1, ap-south up load=40", 1,
			"100 % of us-east's load is 41, and the others cannot carry it: ap-south would have 81 of 100, 81 %, at most 80 % may be, for www.geo.example.com."},
		{"none is up", []zones.ServiceConfig{all}, "us-east up, eu-west down, ap-south unknown", 1,
			"100 % of us-east's load is 0 (no load reported, counted as 0), and the others cannot carry it: no other region is up, for www.geo.example.com."},
		{"none was ever heard of, and each stands in", []zones.ServiceConfig{all}, "us-east unknown, eu-west unknown, ap-south unheard", 1, ""},
		{"loads that are not reported", []zones.ServiceConfig{all}, "us-east up load=290, eu-west up load=10, ap-south up", 1,
			"100 % of us-east's load is 290, and the others cannot carry it: ap-south, eu-west (no load reported by ap-south, counted as 0) would have 300 of 300, 100 %, at most 80 % may be, for www.geo.example.com."},
		{"its own load is not reported", []zones.ServiceConfig{all}, "us-east up, eu-west up load=190, ap-south up load=99", 1, ""},
		{"each set of others must carry it", []zones.ServiceConfig{all, narrow, elsewhere}, "us-east up load=100, eu-west up load=10, ap-south up load=10", 1,
			"100 % of us-east's load is 100, and the others cannot carry it: ap-south would have 110 of 100, 110 %, at most 80 % may be, for narrow.geo.example.com."},
		{"services of one set are one", []zones.ServiceConfig{all, named("a", all), named("b", all), named("c", all)}, "us-east up load=300, eu-west up load=0, ap-south up load=0", 1,
			"100 % of us-east's load is 300, and the others cannot carry it: ap-south, eu-west would have 300 of 300, 100 %, at most 80 % may be, for www.geo.example.com., a.geo.example.com., b.geo.example.com. and 1 more"},
	} {
		set := load(t, tt.services...)
		got := ""
		if err := build(t, set, tt.beliefs).Carry(view(t, set, tt.beliefs), "us-east", tt.share); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestMinActive(t *testing.T) {
	two := service("nearest", "us-east", "eu-west", "ap-south")
	two.MinActive = 2
	one := service("nearest", "us-east", "eu-west")
	one.Name = "one"
	set := load(t, two, one)
	for beliefs, want := range map[string]string{
		"us-east up, eu-west up, ap-south up":             "",
		"us-east up drain=0.5, eu-west up, ap-south up":   "",
		"us-east up, eu-west up, ap-south up drain=1":     "without us-east there would be fewer regions than min_active: www.geo.example.com. would keep 1 of at least 2",
		"us-east up, eu-west up pin-up, ap-south up":      "",
		"us-east up, eu-west up shed=0.9, ap-south up":    "",
		"us-east up, eu-west up, ap-south up shed=1":      "without us-east there would be fewer regions than min_active: www.geo.example.com. would keep 1 of at least 2",
		"us-east down, eu-west up drain=0.1, ap-south up": "without us-east there would be fewer regions than min_active: www.geo.example.com. would keep 1 of at least 2, one.geo.example.com. would keep 0 of at least 1",
	} {
		got := ""
		if err := build(t, set, beliefs).MinActive(view(t, set, beliefs), "us-east"); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", beliefs, got, want)
		}
	}
}
