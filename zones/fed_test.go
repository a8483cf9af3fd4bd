package zones

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A copy of a primary's zone is good for the expire time from when the primary confirmed it last.
func TestExpired(t *testing.T) {
	soa := &dns.SOA{Expire: 3600}
	now := time.Now()
	for name, c := range map[string]struct {
		written, confirmed time.Duration // ago; 0: not at all
		want               string
	}{
		"fresh":                              {time.Second, time.Second, ""},
		"old, and confirmed":                 {48 * time.Hour, time.Minute, ""},
		"confirmed too long ago":             {48 * time.Hour, 2 * time.Hour, "expired: no primary confirmed it for 1h0m0s"},
		"put there":                          {time.Minute, 0, ""},
		"put there too long ago":             {2 * time.Hour, 0, "expired: no primary confirmed it for 1h0m0s"},
		"written after it was confirmed":     {time.Second, 2 * time.Hour, "expired: no primary confirmed it for 1h0m0s"},
		"within the last minute of its life": {48 * time.Hour, 59 * time.Minute, ""},
	} {
		file := filepath.Join(t.TempDir(), "a.zone")
		if got := ReadContent(file, "a.").absent(); got != "not transferred yet" {
			t.Fatalf("%s: %q without a copy", name, got)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, now, now.Add(-c.written)); err != nil {
			t.Fatal(err)
		}
		if c.confirmed > 0 {
			for _, at := range []time.Time{now.Add(-time.Hour * 1000), now.Add(-c.confirmed)} { // it may be there already
				if err := Confirm(file, at); err != nil {
					t.Fatal(err)
				}
			}
			if at, err := Confirmed(file); err != nil || at.Sub(now.Add(-c.confirmed)).Abs() > time.Second {
				t.Errorf("%s: confirmed %v, %v", name, at, err)
			}
		} else if at, err := Confirmed(file); err == nil {
			t.Errorf("%s: confirmed %v", name, at)
		}
		copied := ReadContent(file, "a.")
		if got := copied.expired(soa) + copied.absent(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
