package zones

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// readText reads text as the file "zone" of dir, for the zone example.
func readText(dir, text string) (records, problems []string) {
	if err := os.WriteFile(filepath.Join(dir, "zone"), []byte(text), 0o600); err != nil {
		panic(err)
	}
	c := ReadContent(filepath.Join(dir, "zone"), "example.")
	for _, p := range c.problems {
		problems = append(problems, fmt.Sprintf("%s:%d: %s", p.file, p.line, p.found))
	}
	for _, r := range c.records {
		records = append(records, fmt.Sprintf("%s:%d: %s", r.file, r.line, strings.Join(strings.Fields(r.rr.String()), " ")))
	}
	return records, problems
}

func TestZoneFileEntries(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"inc":      "a A 192.0.2.1\n$ORIGIN low\n$TTL 5\nb A 192.0.2.2\n",
		"sub/inc":  "$INCLUDE next\n",
		"sub/next": "n A 192.0.2.3\n",
		"noowner":  " A 192.0.2.1\n",
		"wrong":    "\n\nx A 1.2.3\n",
	})
	for _, c := range []struct{ why, text, want string }{
		{"names are relative to the origin", "www 60 A 192.0.2.1", "zone:1: www.example. 60 IN A 192.0.2.1"},
		{"a record without owner has the last one", "www 60 A 192.0.2.1\n\n  ; no record\n\tAAAA ::1",
			"zone:1: www.example. 60 IN A 192.0.2.1|zone:4: www.example. 60 IN AAAA ::1"},
		{"of the last origin", "w 60 A 192.0.2.1\n$ORIGIN low\n A 192.0.2.2\nx A 192.0.2.3",
			"zone:1: w.example. 60 IN A 192.0.2.1|zone:3: w.example. 60 IN A 192.0.2.2|zone:4: x.low.example. 60 IN A 192.0.2.3"},
		{"origins build on one another", "$ORIGIN b ; comment\n$ORIGIN a\n@ 60 A 192.0.2.1\n$ORIGIN example.\nc A 192.0.2.2",
			"zone:3: a.b.example. 60 IN A 192.0.2.1|zone:5: c.example. 60 IN A 192.0.2.2"},
		{"$TTL counts over the last TTL", "$TTL 1h30m\na 60 A 192.0.2.1\nb A 192.0.2.2",
			"zone:2: a.example. 60 IN A 192.0.2.1|zone:3: b.example. 5400 IN A 192.0.2.2"},
		{"parentheses join lines; the first tells the line", "\nx 60 TXT ( \"a;b\" ; (\n \"c\" )\ny TXT d",
			"zone:2: x.example. 60 IN TXT \"a;b\" \"c\"|zone:4: y.example. 60 IN TXT \"d\""},
		{"quotes hold newlines, parentheses and semicolons", "x 60 TXT \"(;\nb\\\"\"\ny TXT d",
			"zone:1: x.example. 60 IN TXT \"(;\\010b\\\"\"|zone:3: y.example. 60 IN TXT \"d\""},
		{"escapes hide them", "x 60 TXT \\( \\; \\\"\ny TXT d", "zone:1: x.example. 60 IN TXT \"(\" \";\" \"\\\"\"|zone:2: y.example. 60 IN TXT \"d\""},
		{"lines end with \\r\\n too", "$TTL 60\r\nx A 192.0.2.1\r\n\r\n  AAAA ::1\r\n", "zone:2: x.example. 60 IN A 192.0.2.1|zone:4: x.example. 60 IN AAAA ::1"},
		{"unknown types (RFC 3597)", "x 60 TYPE65280 \\# 2 0102\ny TYPE1 \\# 4 c0000201", "zone:1: x.example. 60 CLASS1 TYPE65280 \\# 2 0102|zone:2: y.example. 60 IN A 192.0.2.1"},
		{"$GENERATE has the TTL of the zone", "$TTL 60\n$GENERATE 1-2 h$ A 192.0.2.$", "zone:2: h1.example. 60 IN A 192.0.2.1|zone:2: h2.example. 60 IN A 192.0.2.2"},
		{"or the last", "a 60 A 192.0.2.9\n$GENERATE 1-1 h$ IN A 192.0.2.$", "zone:1: a.example. 60 IN A 192.0.2.9|zone:2: h1.example. 60 IN A 192.0.2.1"},
		{"or its own", "$TTL 60\n$GENERATE 1-1 h$ 5 A 192.0.2.$\n$GENERATE 2-2 h$ IN 6 TXT \"a  $\"", "zone:2: h1.example. 5 IN A 192.0.2.1|zone:3: h2.example. 6 IN TXT \"a 2\""},
		{"$INCLUDE has its own origin, owner and TTL", "$TTL 60\nw A 192.0.2.9\n$INCLUDE inc\n A 192.0.2.8",
			"zone:2: w.example. 60 IN A 192.0.2.9|inc:1: a.example. 60 IN A 192.0.2.1|inc:4: b.low.example. 5 IN A 192.0.2.2|zone:4: w.example. 60 IN A 192.0.2.8"},
		{"its origin may be given", "$TTL 60\n$INCLUDE \"inc\" sub ; comment", "inc:1: a.sub.example. 60 IN A 192.0.2.1|inc:4: b.low.sub.example. 5 IN A 192.0.2.2"},
		{"it is relative to the file that has it", "$TTL 60\n$INCLUDE sub/inc", "sub/next:1: n.example. 60 IN A 192.0.2.3"},
		{"it may be absolute", "$TTL 60\n$INCLUDE " + dir + "/sub/next", "sub/next:1: n.example. 60 IN A 192.0.2.3"},

		{"all problems are told", "$TTL x\n$ORIGIN a..b\nx 60 A 1.2.3.4.5\ny 60 A 192.0.2.1\nz A", `zone:1: expecting $TTL value, not this...: "x"|zone:2: bad owner name: "a..b"|` +
			`zone:3: bad A A: "1.2.3.4.5"|zone:4: y.example. 60 IN A 192.0.2.1|zone:5: A record has no data`},
		{"in included files with their lines", "$TTL 60\n$INCLUDE wrong", `wrong:3: bad A A: "1.2.3"`},
		{"no TTL", "x A 192.0.2.1", `zone:1: missing TTL with no previous value: "A"`},
		{"no TTL for $GENERATE", "$GENERATE 1-1 x$ A 192.0.2.1", "zone:1: missing TTL with no previous value"},
		{"no owner", " 60 A 192.0.2.1", "zone:1: record has no owner name"},
		{"no owner in an included file", "$TTL 60\nw A 192.0.2.9\n$INCLUDE noowner", "zone:2: w.example. 60 IN A 192.0.2.9|noowner:1: record has no owner name"},
		{"another class", "x 60 CH A 192.0.2.1", "zone:1: class is CH, not IN"},
		{"a type that is none of data", "x 60 TYPE255 \\# 0", "zone:1: type ANY is not for zones"},
		{"a TTL too large", "x 4000000000 A 192.0.2.1", "zone:1: ttl 4000000000 is above 2147483647"},
		{"rdata that is no base64", "x 60 DNSKEY 256 3 8 !", "zone:1: DNSKEY record cannot be packed: illegal base64 data at input byte 0"},
		{"no rdata", "x 60 A \\# 0", "zone:1: A record has no data"},
		{"open quotes", "x 60 TXT \"a\ny A 192.0.2.1", "zone:1: quotation mark is not closed"},
		{"open parentheses", "x 60 TXT ( a\ny A 192.0.2.1", "zone:1: parenthesis is not closed"},
		{"an unknown directive", "$SEA 1", "zone:1: unknown directive $SEA"},
		{"$INCLUDE without file", "$INCLUDE ; inc", "zone:1: $INCLUDE takes a file and at most an origin"},
	} {
		records, problems := readText(dir, c.text)
		got := append(records, problems...)
		slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:strings.Index(a, ": ")], b[:strings.Index(b, ": ")]) })
		want := strings.Split(c.want, "|")
		slices.SortStableFunc(want, func(a, b string) int { return strings.Compare(a[:strings.Index(a, ": ")], b[:strings.Index(b, ": ")]) })
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", c.why, got, want)
		}
	}
}

func TestIncludeStaysInTheFolder(t *testing.T) {
	outside := filepath.Join(writeFiles(t, map[string]string{"secret": "s 60 A 192.0.2.1\n"}), "secret")
	dir := writeFiles(t, map[string]string{"inside": "i 60 A 192.0.2.2\n", "sub/up": "$INCLUDE ../inside\n"})
	for link, to := range map[string]string{"link": outside, "good": "inside", "dirlink": filepath.Dir(outside)} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	const inside = "inside:1: i.example. 60 IN A 192.0.2.2"
	for _, c := range []struct{ text, want string }{
		{"$INCLUDE inside", inside},
		{"$INCLUDE sub/up", inside},
		{"$INCLUDE ./sub/../inside", inside},
		{"$INCLUDE good", "good:1: i.example. 60 IN A 192.0.2.2"},
		{"$INCLUDE " + outside, "path escapes from parent"},
		{"$INCLUDE ../" + filepath.Base(filepath.Dir(outside)) + "/secret", "path escapes from parent"},
		{"$INCLUDE link", "path escapes from parent"},
		{"$INCLUDE dirlink/secret", "path escapes from parent"},
		{"$INCLUDE missing", "no such file or directory"},
		{"$INCLUDE sub", "not a regular file"},
		{"$INCLUDE zone", "nested deeper than 8"},
		{"$TTL 60\n$GENERATE 1-1 $$INCLUDE " + outside + " ;", "$INCLUDE directive not allowed"},
		{"$TTL 60\n$GENERATE 12-12 $$IN${0,0,x}LU${1,0,x}${2,0,x} " + outside, "$INCLUDE directive not allowed"},
		{"($INC\nLUDE " + outside + ")", "$INCLUDE directive not allowed"},
	} {
		records, problems := readText(dir, c.text)
		all := strings.Join(append(records, problems...), "|")
		if !strings.Contains(all, c.want) || strings.Contains(all, "s.example.") || len(records)+len(problems) != 1 {
			t.Errorf("%q: %s, want %s", c.text, all, c.want)
		}
	}
}

func TestZoneFileMeetsItsBounds(t *testing.T) {
	dir := t.TempDir()
	if _, problems := readText(dir, strings.Repeat("nonsense\n", 1000)); len(problems) != maxProblems {
		t.Errorf("%d problems of a file that is no zone file, want %d", len(problems), maxProblems)
	}
	_, problems := readText(dir, "x 60 TXT \""+strings.Repeat("a", maxEntry))
	if want := fmt.Sprintf("zone:1: entry is longer than %d octets", maxEntry); len(problems) != 1 || problems[0] != want {
		t.Errorf("%q, want %q", problems, want)
	}
	if _, problems := readText(dir, strings.Repeat("$INCLUDE zone\n", 3)); len(problems) != maxProblems {
		t.Errorf("%d problems of a file that includes itself thrice, want %d", len(problems), maxProblems)
	}
}

// FuzzZoneFile reads any text. What is accepted must be what miekg/dns reads of the
// whole text, where it accepts that and the two mean the same; and what compiles must
// unpack to the records it was packed from.
func FuzzZoneFile(f *testing.F) {
	f.Add(head + "www A 192.0.2.1\n*.w TXT \"a\"\ncut NS ns.cut\nns.cut A 192.0.2.2\n")
	f.Add(rfc4592)
	f.Add("$TTL 60\n$GENERATE 1-3 h$ A 192.0.2.${1,2,d}\n$ORIGIN a\nx ( TXT \"b;c\" ; d\n e )\n")
	f.Add("x 60 LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m\n")
	f.Add("x 60 SVCB 1 . alpn=h2 port=53 ipv4hint=192.0.2.1\ny NAPTR 1 2 \"u\" \"s\" \"\" .\n")
	f.Add("x 60 TXT \x8b \\139\n\\120 60 TXT \x8b\x8b\n")
	folder, err := os.OpenRoot(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		problems := 0
		problem := func(string, int, string, string) { problems++ }
		r := &zoneReader{folder: folder, problem: problem, scratch: make([]byte, 1<<16)}
		_ = r.file(text, scope{path: "zone", origin: "example."})
		if problems > 0 {
			return
		}
		if !strings.Contains(text, "$") {
			sameAsLibrary(t, text, r.records)
		}
		apex := string(wire("example."))
		z := &Zone{Name: "example.", Wire: []byte(apex)}
		d := &draft{zone: z, apex: apex, names: map[string][]record{}, zones: map[string]*Zone{apex: z}, problem: problem}
		d.add(r.records)
		d.check()
		if problems > 0 {
			return
		}
		s := &Set{names: map[string]*Node{}}
		d.build(s)
		for _, n := range s.names {
			qname := strings.Replace(n.Name, "*", "any", 1)
			for _, set := range n.Sets {
				sameRecords(t, message(t, qname, "example.", set), set.RRs, n.Name, qname)
			}
			if c := n.Cut; c != nil {
				rrs := c.NS.RRs
				if c.Glue != nil {
					rrs = slices.Concat(rrs, c.Glue.RRs)
				}
				sameRecords(t, message(t, n.Name, "example.", c.NS, c.Glue), rrs, "", "")
			}
		}
	})
}

// sameAsLibrary compares records with those that miekg/dns reads of the whole text.
func sameAsLibrary(t *testing.T, text string, records []record) {
	p := dns.NewZoneParser(strings.NewReader(endLine(text)), "example.", "")
	r := &zoneReader{scratch: make([]byte, 1<<16)}
	for i := 0; ; i++ {
		rr, ok := p.Next()
		if ok {
			var err error
			if rr, err = r.accept(rr); err != nil {
				t.Fatalf("the library reads what must not be accepted: %v", err)
			}
		}
		switch {
		case p.Err() != nil:
			return // it takes entries apart differently: not to be held against ours
		case !ok && i == len(records):
			return
		case !ok || i == len(records):
			t.Fatalf("%d records, the library has %d or more", len(records), i)
		case rr.String() != records[i].rr.String():
			t.Fatalf("%v, the library reads %v", records[i].rr, rr)
		}
	}
}
