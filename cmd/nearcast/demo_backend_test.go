package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// request asks h as the peer from, and returns status and body.
func request(h http.Handler, method, path, from string) (int, string) {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestBackendsOfASiteFailAndHealTogether(t *testing.T) {
	s := newSite("us-east")
	a, b := s.backend("a"), s.backend("b")
	const far = "192.0.2.1:40000"
	for _, step := range []struct {
		h                  http.Handler
		method, path, from string
		status             int
		body               string // "" is any
	}{
		{a, "GET", "/healthz", far, 200, "ok\n"},
		{a, "GET", "/", far, 200, "us-east, server a\n"},
		{b, "GET", "/", far, 200, "us-east, server b\n"},
		{a, "GET", "/demo/fail", near, 405, ""},
		{a, "POST", "/demo/fail", far, 403, ""},
		{a, "POST", "/demo/fail", "[2001:db8::1]:40000", 403, ""},
		{a, "POST", "/demo/fail", "", 403, ""},
		{b, "GET", "/healthz", far, 200, "ok\n"},
		{a, "POST", "/demo/fail", near, 200, "us-east failing: true\n"},
		{a, "GET", "/healthz", far, 503, ""},
		{b, "GET", "/healthz", far, 503, ""},
		{b, "GET", "/", far, 503, ""},
		{b, "GET", "/load", far, 200, ""},
		{b, "POST", "/demo/heal", far, 403, ""},
		{b, "POST", "/demo/heal", "[::ffff:10.0.0.1]:40000", 200, "us-east failing: false\n"},
		{a, "GET", "/healthz", far, 200, "ok\n"},
		{a, "GET", "/other", far, 404, ""},
	} {
		status, body := request(step.h, step.method, step.path, step.from)
		if status != step.status || step.body != "" && body != step.body {
			t.Fatalf("%s %s from %q: %d %q, want %d %q", step.method, step.path, step.from, status, body, step.status, step.body)
		}
	}
}

func TestARateIsTheCountOfTheSecondBefore(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(ms) * time.Millisecond) }
	var r rate
	for _, ms := range []int{0, 10, 990, 999, 1000, 1500} {
		r.add(at(ms))
	}
	for _, c := range []struct {
		ms   int
		want float64
	}{{1600, 4}, {1999, 4}, {2000, 2}, {2999, 2}, {3000, 0}, {9000, 0}} {
		if got := r.perSecond(at(c.ms)); got != c.want {
			t.Errorf("after %d ms: %v, want %v", c.ms, got, c.want)
		}
	}
	r.add(at(9100))
	if got := r.perSecond(at(11000)); got != 0 {
		t.Errorf("two seconds after one event: %v, want 0", got)
	}
}
