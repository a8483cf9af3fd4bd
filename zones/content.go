package zones

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// A Content is what a zone file held when it was read, good or not. Immutable: every set that is made while the file stays as it
// is has the same records.
type Content struct {
	records  []record
	files    []string // the zone file and what it includes, as far as they could be read
	stamps   []stamp  // of files
	problems []flaw
	missing  bool // there was no file
	given    bool // it is no file's
	damaged  bool // a copy that is not as it was written
}

// A flaw is what is wrong with a zone file at a place in it.
type flaw struct {
	file            string // relative to the zone file's folder
	line            int    // 0 for the file as a whole
	found, accepted string
}

// A stamp tells versions of a file apart.
type stamp struct {
	size int64
	time time.Time
	new  bool // the file was so new that what is written next may have the same time
}

// ClockGrain is how far a file's time may lie behind the clock.
const ClockGrain = 20 * time.Millisecond

func stampOf(info fs.FileInfo) stamp {
	return stamp{info.Size(), info.ModTime(), time.Since(info.ModTime()) < ClockGrain}
}

// ReadContent reads the zone file at path of the zone origin, an absolute name in lower case.
func ReadContent(path, origin string) *Content {
	c := &Content{}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		c.missing = true
	}
	c.read(origin, func(r *zoneReader) { r.readFile(path, origin) })
	return c
}

// ParseContent reads the text of a zone that was transferred.
func ParseContent(text, origin string) *Content {
	c := &Content{given: true}
	c.read(origin, func(r *zoneReader) {
		_ = r.file(text, scope{origin: origin}) // errTooMuch has been reported
	})
	return c
}

func (c *Content) read(origin string, read func(*zoneReader)) {
	r := &zoneReader{scratch: make([]byte, 1<<16)}
	r.problem = func(file string, line int, found, accepted string) {
		c.problems = append(c.problems, flaw{file, line, found, accepted})
	}
	read(r)
	c.records, c.files, c.stamps, c.damaged = slices.Clip(r.records), r.files, r.stamps, r.damaged
}

// At is the content of a text, once it is written to the file at path.
func (c *Content) At(path string) *Content {
	at := *c
	at.given, at.files, at.stamps = false, []string{path}, []stamp{{new: true}}
	if info, err := os.Stat(path); err == nil {
		at.stamps[0] = stamp{size: info.Size(), time: info.ModTime()} // nobody else writes it
	}
	return &at
}

// IsGood tells if the file could be read, and nothing was wrong with it. What its records say is another matter.
func (c *Content) IsGood() bool { return c.err() == nil }

// IsMissing tells if there was no file.
func (c *Content) IsMissing() bool { return c.missing }

// Changed tells if the file may hold something else by now.
func (c *Content) Changed() bool {
	if !c.IsGood() {
		return true
	}
	for i, f := range c.files {
		info, err := os.Stat(f)
		if s := c.stamps[i]; err != nil || s.new || s.size != info.Size() || !s.time.Equal(info.ModTime()) {
			return true
		}
	}
	return false
}

// err is what is wrong with the file.
func (c *Content) err() (err error) {
	if c.damaged {
		err = errDamaged
	}
	for _, p := range c.problems {
		err = errors.Join(err, fmt.Errorf("line %d: %s", p.line, p.found))
	}
	return err
}

// A copy begins with a seal, so that one that was cut or changed is not served for the whole. A file without is an operator's.
const sealStart = "; a copy made by nearcast; SHA-256 of the lines below: "

var errDamaged = errors.New("it is not as it was written: remove the first line to have it served all the same")

// Seal is the text of a zone as the file of its copy.
func Seal(text string) string { return sealStart + digest(text) + "\n" + text }

func isDamaged(text string) bool {
	rest, sealed := strings.CutPrefix(text, sealStart)
	sum, below, _ := strings.Cut(rest, "\n")
	return sealed && sum != digest(below)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
