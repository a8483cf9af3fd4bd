package zones

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// What a DNAME makes of a name has 255 octets at most.
func TestRenamedNamesFit(t *testing.T) {
	target := strings.Repeat(strings.Repeat("x", 49)+".", 5) // 251 octets with the root's
	dname := &dns.DNAME{Hdr: dns.RR_Header{Name: "d.example."}, Target: target}
	for name, want := range map[string]string{
		"a.d.example.":    "a." + target,
		"abc.d.example.":  "abc." + target, // 255
		"abcd.d.example.": "",
		"a.bc.d.example.": "", // 256
	} {
		if got := Rename(dname, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
