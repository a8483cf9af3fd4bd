package zones

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
)

// Bounds of one zone file with all that it includes.
const (
	maxIncludeDepth = 8         // files within files; deeper is a file that includes itself
	maxZoneBytes    = 256 << 20 // octets read; a file of a million records has about 50 MiB
	maxRecords      = 4 << 20   // records, which $GENERATE makes from few octets
	maxEntry        = 1 << 20   // octets of one entry; 64 KiB of rdata take four times that in \DDD escapes
	maxProblems     = 20        // problems told of one file; a file that is no zone file has one on each line
	maxTTL          = 1<<31 - 1 // RFC 2181, section 8
)

// A record is one record of a zone file, and where it stands.
type record struct {
	rr   dns.RR
	file string
	line int
}

// A zoneReader reads one zone file with all that it includes (RFC 1035, section 5).
//
// It cuts the text into entries, and miekg/dns parses each. So every problem is found
// and not only the first, each with its line; and the library, which would open any
// file of the machine for an $INCLUDE that a $GENERATE generates, opens none.
type zoneReader struct {
	folder   *os.Root // that of the zone file; $INCLUDE does not leave it
	problem  func(file string, line int, found, accepted string)
	files    []string // as opened
	stamps   []stamp  // of files, from before they were read
	damaged  bool     // the zone file has a seal, and not that of its text
	records  []record
	bytes    int
	problems int
	scratch  []byte
}

// A scope is what entries of a file inherit from those above them.
type scope struct {
	path   string // of the file, relative to the folder
	origin string
	owner  string // "" before the first record
	ttl    uint32 // the default
	hasTTL bool
	set    bool // by $TTL, and not by the last record's
	depth  int
}

var errTooMuch = errors.New("a bound of zone files was met") // reported where it is met

// readFile reads the zone file at path for the zone origin.
func (r *zoneReader) readFile(path, origin string) {
	folder, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		r.problem("", 0, reason(err), "a zone file that can be read")
		return
	}
	defer folder.Close()
	r.folder = folder
	// The zone file itself may be a link to anywhere: the operator named it.
	text, err := r.read(func() (*os.File, error) { return os.Open(path) }, func() (fs.FileInfo, error) { return os.Stat(path) })
	if err != nil {
		r.problem("", 0, reason(err), "a zone file that can be read")
		return
	}
	r.files = append(r.files, path)
	r.damaged = isDamaged(text)
	_ = r.file(text, scope{path: filepath.Base(path), origin: origin}) // errTooMuch has been reported
}

// read returns the text of a regular file: a device or a pipe might never end.
func (r *zoneReader) read(open func() (*os.File, error), stat func() (fs.FileInfo, error)) (string, error) {
	info, err := stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	f, err := open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b strings.Builder
	b.Grow(int(min(info.Size(), maxZoneBytes)) + 1)
	n, err := io.Copy(&b, io.LimitReader(f, int64(maxZoneBytes-r.bytes)+1))
	if err != nil {
		return "", err
	}
	if r.bytes += int(n); r.bytes > maxZoneBytes {
		return "", fmt.Errorf("more than %d octets with all included files", maxZoneBytes)
	}
	r.stamps = append(r.stamps, stampOf(info))
	return b.String(), nil
}

// file parses the entries of one file.
func (r *zoneReader) file(text string, s scope) error {
	for line := 1; text != ""; {
		n, lines, err := cutEntry(text)
		if err == nil {
			err = r.entry(text[:n], &s, line)
		}
		if err == errTooMuch {
			return err
		}
		if err != nil {
			if err := r.tell(s.path, line, err.Error(), "an entry as in RFC 1035, section 5"); err != nil {
				return err
			}
		}
		text = text[n:]
		line += lines
	}
	return nil
}

// tell reports a problem; its error is that there were enough.
func (r *zoneReader) tell(file string, line int, found, accepted string) error {
	r.problem(file, line, found, accepted)
	if r.problems++; r.problems >= maxProblems {
		return errTooMuch
	}
	return nil
}

// cutEntry returns the length of text's first entry: up to a newline that is neither
// in parentheses nor in quotes.
func cutEntry(text string) (n, lines int, err error) {
	depth, quoted := 0, false
	for i := 0; i < min(len(text), maxEntry); i++ {
		switch c := text[i]; {
		case c == '\n':
			lines++
			if depth == 0 && !quoted {
				return i + 1, lines, nil
			}
		case c == '\\' && i+1 < len(text) && text[i+1] != '\n':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth = max(depth-1, 0) // the parser tells
		case c == ';':
			if end := strings.IndexByte(text[i:], '\n'); end >= 0 {
				i += end - 1
			} else {
				i = len(text)
			}
		}
	}
	switch {
	case len(text) > maxEntry:
		err = fmt.Errorf("entry is longer than %d octets", maxEntry)
	case quoted:
		err = errors.New("quotation mark is not closed")
	case depth > 0:
		err = errors.New("parenthesis is not closed")
	}
	return len(text), lines + 1, err
}

// entry takes one entry: a directive, a record, or nothing but space and comment.
func (r *zoneReader) entry(text string, s *scope, line int) error {
	if t := strings.TrimLeft(text, " \t\r\n"); t == "" || t[0] == ';' {
		return nil
	}
	switch text[0] {
	case ' ', '\t':
		text = s.owner + text
	case '$':
		word, rest := cutField(text)
		switch strings.ToUpper(word) {
		case "$ORIGIN":
			return s.setOrigin(rest)
		case "$TTL":
			return s.setTTL(text)
		case "$INCLUDE":
			return r.include(rest, *s, line)
		case "$GENERATE":
			if text = s.generate(word, rest); text == "" {
				return errors.New("missing TTL with no previous value")
			}
		default:
			return fmt.Errorf("unknown directive %s", word)
		}
	}
	return r.parse(text, s, line)
}

func (s *scope) setOrigin(args string) error {
	names := arguments(args)
	if len(names) != 1 {
		return errors.New("$ORIGIN takes one name")
	}
	origin, err := s.absolute(names[0])
	if err == nil {
		s.origin = origin
	}
	return err
}

// absolute reads a name as a record's owner: in a directive, the library takes a name
// such as mx for a type.
func (s *scope) absolute(name string) (string, error) {
	rr, err := s.probe(name + " 0 A 0.0.0.0\n")
	if err != nil {
		return "", err
	}
	return rr.Header().Name, nil
}

// setTTL reads a $TTL's value off a record behind it.
func (s *scope) setTTL(directive string) error {
	rr, err := s.probe(endLine(directive) + "@ A 0.0.0.0\n")
	if err == nil {
		s.ttl, s.hasTTL, s.set = rr.Header().Ttl, true, true
	}
	return err
}

// probe parses one record.
func (s *scope) probe(text string) (dns.RR, error) {
	p := dns.NewZoneParser(strings.NewReader(text), s.origin, "")
	rr, ok := p.Next()
	if !ok {
		return nil, cmp.Or(plainError(p.Err()), errors.New("directive without value"))
	}
	return rr, nil
}

// generate gives a $GENERATE without a TTL the default one, which the library does
// not. It returns "" if there is none.
func (s *scope) generate(word, rest string) string {
	span, rest := cutField(rest)
	owner, rest := cutField(rest)
	next, after := cutField(rest)
	if _, ok := dns.StringToClass[strings.ToUpper(next)]; ok {
		next, _ = cutField(after)
	}
	ttl := ""
	if next == "" || next[0] < '0' || next[0] > '9' {
		if !s.hasTTL {
			return ""
		}
		ttl = fmt.Sprint(s.ttl)
	}
	return strings.Join([]string{word, span, owner, ttl, rest}, " ")
}

// include reads the file that an $INCLUDE names, in a scope of its own.
func (r *zoneReader) include(args string, s scope, line int) error {
	fields := arguments(args)
	if len(fields) != 1 && len(fields) != 2 {
		return errors.New("$INCLUDE takes a file and at most an origin")
	}
	if r.folder == nil {
		return errors.New("$INCLUDE in what is no file")
	}
	if s.depth++; s.depth > maxIncludeDepth {
		return fmt.Errorf("$INCLUDE is nested deeper than %d files", maxIncludeDepth)
	}
	if len(fields) == 2 {
		if err := s.setOrigin(fields[1]); err != nil {
			return err
		}
	}
	name := strings.Trim(fields[0], `"`)
	path := filepath.Join(filepath.Dir(s.path), name)
	if filepath.IsAbs(name) {
		folder, err := filepath.Abs(r.folder.Name())
		if err != nil {
			return err
		}
		if path, err = filepath.Rel(folder, name); err != nil {
			return err
		}
	}
	text, err := r.read(func() (*os.File, error) { return r.folder.Open(path) }, func() (fs.FileInfo, error) { return r.folder.Stat(path) })
	if err != nil {
		return r.tell(s.path, line, fmt.Sprintf("$INCLUDE %s: %s", fields[0], reason(err)), "a file inside the zone file's folder")
	}
	r.files = append(r.files, filepath.Join(r.folder.Name(), path))
	s.path, s.owner = path, ""
	return r.file(text, s)
}

// parse parses an entry that makes records.
func (r *zoneReader) parse(text string, s *scope, line int) (err error) {
	p := dns.NewZoneParser(strings.NewReader(endLine(text)), s.origin, "")
	if s.hasTTL {
		p.SetDefaultTTL(s.ttl)
	}
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		rr, err := r.accept(rr)
		if err != nil {
			return err
		}
		if len(r.records) == maxRecords {
			r.problem(s.path, line, "one record too many", fmt.Sprintf("at most %d records", maxRecords))
			return errTooMuch
		}
		r.records = append(r.records, record{rr, s.path, line})
		h := rr.Header()
		s.owner = h.Name
		if !s.set {
			s.ttl, s.hasTTL = h.Ttl, true
		}
	}
	return plainError(p.Err())
}

// accept refuses what is no data of a zone, and what the parser lets pass unchecked.
// The record that it returns has been through wire format: names and strings that the
// file writes in different ways are then the same.
func (r *zoneReader) accept(rr dns.RR) (dns.RR, error) {
	h := rr.Header()
	name := dns.Type(h.Rrtype).String()
	switch {
	case h.Name == "":
		return nil, errors.New("record has no owner name")
	case h.Class != dns.ClassINET:
		return nil, fmt.Errorf("class is %s, not IN", dns.Class(h.Class))
	case h.Rrtype == 0 || h.Rrtype == dns.TypeOPT || h.Rrtype >= 128 && h.Rrtype <= 255: // RFC 6895, section 3.1
		return nil, fmt.Errorf("type %s is not for zones", name)
	case h.Ttl > maxTTL:
		return nil, fmt.Errorf("ttl %d is above %d", h.Ttl, maxTTL)
	}
	FromWire(rr) // if RFC 3597's form was its
	n, err := dns.PackRR(rr, r.scratch, 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("%s record cannot be packed: %w", name, err)
	}
	_, known := dns.TypeToRR[h.Rrtype]
	if h.Rdlength == 0 && known && h.Rrtype != dns.TypeAPL && h.Rrtype != dns.TypeNULL {
		return nil, fmt.Errorf("%s record has no data", name)
	}
	if rr, _, err = dns.UnpackRR(r.scratch[:n], 0); err != nil {
		return nil, fmt.Errorf("%s record is malformed: %w", name, err)
	}
	FromWire(rr)
	return rr, nil
}

// plainError takes what is said elsewhere (package and line) from the parser's error.
func plainError(err error) error {
	if err == nil {
		return nil
	}
	s := strings.TrimPrefix(err.Error(), "dns: ")
	if i := strings.LastIndex(s, " at line: "); i >= 0 {
		s = s[:i]
	}
	return errors.New(s)
}

// reason is an error of the file system without the path, which is said elsewhere.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// cutField returns the first field of s and what follows it.
func cutField(s string) (field, rest string) {
	s = strings.TrimLeft(s, " \t")
	i := strings.IndexAny(s, " \t\r\n")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// arguments returns the fields of a directive's line up to a comment.
func arguments(s string) []string {
	s, _, _ = strings.Cut(s, ";")
	return strings.Fields(s)
}

// endLine ends text with a newline; the parser takes a record that ends with the text
// for one without data.
func endLine(text string) string {
	if strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}
